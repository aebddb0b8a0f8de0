"""Real parts: workers and destinations that are storescp, `listener run`, and `listener route` behind it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydicom import dcmread

from listener.route.schema import ROUTE
from listener.stages.database import open_reader
from tests.dicomnet import accepts, environment, free_port, kill_group, stop
from tests.instances import uid, write_instance
from tests.reloading import reloading
from tests.service_process import Places, Scrape, Service, parse_page
from tests.stages.processes import StageProcess
from tests.stages.processes import stage as stage_process
from tests.waiting import until


class Machine:
    """A storescp, not forking, in a process group of its own; it can be ended, frozen and started again on its port."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.port = name, free_port()
        self.folder = folder / name
        self.folder.mkdir()
        self._output = folder / f"{name}.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *args: str, nodelay: bool = True) -> None:
        """Start it, with more options of storescp's."""
        variables = environment() if nodelay else environment(TCP_NODELAY="0")
        command = ["storescp", "+B", "+uf", "+xa", "-pm", *args, "-od", str(self.folder), str(self.port)]
        with self._output.open("ab") as sink:
            self.process = process = subprocess.Popen(
                command, env=variables, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, process_group=0
            )
        until(lambda: process.poll() is not None or accepts(self.port), 10, what=self.name)
        assert process.poll() is None, self._output.read_text(errors="replace")

    def kill(self) -> None:
        """End it without a word."""
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            kill_group(self.process.pid)
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Let it take connections, and do nothing."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            stop(self.process)
            self.process = None

    def instances(self) -> dict[str, str]:
        """What it has: SOP Instance UIDs, and the study of each."""
        found = {}
        for path in self.folder.iterdir():
            with contextlib.suppress(Exception):  # It is being written.
                ds = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "StudyInstanceUID"])
                found[str(ds.SOPInstanceUID)] = str(ds.StudyInstanceUID)
        return found

    def studies(self) -> set[str]:
        return set(self.instances().values())


class Ward:
    """A collection with its machines."""

    def __init__(self, places: Places, machines: dict[str, Machine], destinations: dict[str, Machine]) -> None:
        self.places, self.workers, self.destinations = places, machines, destinations
        self.file = places.state.parent / "routes.toml"
        #: Let series end after other seconds from now on.
        self.quiet: Callable[[float], None] = lambda _: None
        self.write()

    def write(self, routes: str = "", **about: str) -> None:
        """Write the routes file: all machines (with more lines `about` one), and one route, or these."""
        text = ""
        for kind, machines in (("workers", self.workers), ("destinations", self.destinations)):
            for name, machine in machines.items():
                text += f'[{kind}.{name}]\naddress = "127.0.0.1:{machine.port}"\naet = "{name.upper()}"\n'
                text += about.get(name, "") + "\n"
        if not routes:
            routes = f'[routes.all]\nsender = ["*"]\nworkers = {[*self.workers]}\n'
            if self.destinations:
                routes += f"copies = {[*self.destinations]}\n"
        new = self.file.with_suffix(".new")
        new.write_text(text + routes)
        os.replace(new, self.file)

    def send(self, study: int, *numbers: int, series: int = 0, root: int = 0, sender: str = "SCANNER") -> str:
        """Put instances into incoming, as storescp would; return the study's UID."""
        made = [
            write_instance(
                self.places.base / f"{sender}-{study}-{series}-{number}",
                study=study,
                series=series,
                number=number + 1,
                sender=sender,
            )
            for number in numbers
        ]
        for path in made:  # All at once: the series must not be quiet between two of them.
            shutil.copyfile(path, self.places.incomings[root] / path.name)
        return str(uid("study", 0, study))

    def options(self) -> list[str]:
        """What `listener route` is started with."""
        return ["--routes", str(self.file), "--data", str(self.places.data), "--http", "127.0.0.1:0"]

    @contextmanager
    def route(self, *args: str, ready: bool = True) -> Iterator[StageProcess]:
        """`listener route`, ended when the block is left."""
        with stage_process(
            self.places.state, *self.options(), *args, ready=ready, module=("listener", "route")
        ) as running:
            yield running

    def started(self, *args: str) -> StageProcess:
        """`listener route`, to be ended by hand."""
        return StageProcess(self.places.state, *self.options(), *args, module=("listener", "route"))

    def sends(self) -> dict[str, int]:
        """How many sends there are of each state."""
        with contextlib.closing(open_reader(str(self.places.state), ROUTE)) as connection:
            return dict(connection.execute("SELECT state, count(*) FROM sends GROUP BY state").fetchall())

    def holders(self, study: str) -> dict[str, int]:
        """Which workers have how many instances of a study."""
        counts = {
            name: sum(of == study for of in machine.instances().values()) for name, machine in self.workers.items()
        }
        return {name: count for name, count in counts.items() if count}

    def whole_at_one(self, study: str, count: int, seconds: float = 20) -> str:
        """Until one worker has all of a study, and no other one any of it; its name."""

        def there() -> str:
            found = self.holders(study)
            assert list(found.values()) == [count], found
            return next(iter(found))

        return until(there, seconds)


def scrape(running: StageProcess) -> Scrape:
    """The metrics of a stage."""
    return parse_page(running.get("/metrics")[1])


@contextmanager
def ward(
    places: Places, *, workers: int = 2, destinations: int = 0, start: bool = True, quiet: float = 2
) -> Iterator[tuple[Ward, Service]]:
    """A collection with `listener run` and so many machines; a series ends after `quiet` seconds."""
    folder = places.state.parent / "machines"
    folder.mkdir()
    made = {f"gpu{number + 1}": Machine(folder, f"gpu{number + 1}") for number in range(workers)}
    other = {f"dest{number + 1}": Machine(folder, f"dest{number + 1}") for number in range(destinations)}
    with ExitStack() as stack:
        for machine in (*made.values(), *other.values()):
            stack.callback(machine.kill)
            if start:
                machine.start()
        running, change = stack.enter_context(reloading(places, series_quiet=str(quiet)))
        here = Ward(places, made, other)
        here.quiet = lambda seconds: change(series_quiet=str(seconds))
        yield here, running
