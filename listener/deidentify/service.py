"""The stage deidentify: takes deliveries of series, cleans each as a unit, and tells in the loop what became of it."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from listener.deidentify import holding, inputs, metric_rows
from listener.deidentify.due import task_of, withhold
from listener.deidentify.faults import ProviderFailed
from listener.deidentify.keys import Keys
from listener.deidentify.options import DeidentifyOptions
from listener.deidentify.profile import Rules
from listener.deidentify.provider import provider_of
from listener.deidentify.recipe_file import Recipes, read_recipes
from listener.deidentify.units import Result, Task, Units
from listener.deidentify.vault import Vault
from listener.deidentify.work import Method
from listener.errors import ConfigError, LedgerFault, NotTaken, Postponed
from listener.ledger.delivery_threads import Consumer, DeliveryThreads
from listener.ledger.interests import Interest, text_of
from listener.ledger.reader import reading
from listener.ledger.rows import Delivery
from listener.stages.database import StageFault
from listener.stages.service import Tools
from listener.stages.worker_process import Setup
from listener.stages.workers import WorkerFailed, Workers
from listener.telemetry.health import Checks
from listener.telemetry.metric_rows import Row

#: Seconds for which a delivery is leased; renewed while it is worked on.
_LEASE = 120.0

#: Seconds after which a unit is tried again whose files are not as the ledger says, and how often.
_SOON, _ATTEMPTS = 5.0, 4

#: Seconds between two looks whether a stage that is to end has nothing to do any more.
_HURRY = 0.02

Told = tuple[str, Mapping[str, Any]]


def recipes_of(options: DeidentifyOptions) -> Recipes:
    """Return the recipes that the options name. Raises ConfigError with each line that cannot be honoured."""
    return read_recipes(options.recipe, has_values=bool(options.identifiers or options.identifiers_exec))


def method_of(options: DeidentifyOptions) -> Method:
    """Return how a collection is cleaned. Raises ConfigError."""
    inputs.load_dictionary()
    safe = inputs.read_safe_private(options.safe_private) if "retain-safe-private" in options.option else frozenset()
    recipes = recipes_of(options)
    return Method(
        Rules(frozenset(options.option), safe, recipes.header, options.profile == "basic"),
        Keys(inputs.read_key(options.key_file)),
        inputs.read_words(options.words),
        inputs.read_words(()),
        options.burned_in,
        options.incomplete == "pass",
        options.shift_days,
        recipes.labels,
        bool(options.identifiers or options.identifiers_exec),
        options.fsync != "none",
    )


def require(state_dir: str, options: DeidentifyOptions) -> None:
    """Raise ConfigError where the stage cannot work, or what must stay apart would not."""
    problems = []
    if not options.into:
        problems.append("--into: name the directory of batches of the collection that gets what is clean")
    elif not os.path.isdir(options.into) or not os.access(options.into, os.W_OK | os.X_OK):
        problems.append(f"--into: '{options.into}' is no directory that can be written")
    if not options.key_file:
        problems.append("--key-file: name the key; 'listener deidentify new-key FILE' makes one")
    problems += _too_near(state_dir, options)
    try:
        with reading(state_dir) as reader:
            reader.data_dir()
    except LedgerFault as fault:
        problems.append(f"--state: '{state_dir}': {fault}")
    if problems:
        raise ConfigError(problems)


def _too_near(state_dir: str, options: DeidentifyOptions) -> Iterator[str]:
    """Yield what does not keep apart what must be: key, vault, and what leaves the site."""
    for name, below in (("--key-file", options.key_file), ("--state", state_dir), ("--vault", options.vault)):
        if below and options.into and _is_below(below, options.into):
            yield f"{name}: it lies below --into, where what leaves the site lies"
    for name, folder in (("--state", state_dir), ("--vault", options.vault)):
        if options.key_file and folder and _is_below(options.key_file, folder):
            yield f"--key-file: it lies below {name}, with the vault: keep them apart"
    if options.vault and options.no_vault:
        yield "--no-vault: there is no --vault then; give one of both"


def _is_below(path: str, directory: str) -> bool:
    real, root = os.path.realpath(path), os.path.realpath(directory)
    return real == root or real.startswith(root.rstrip("/") + "/")


class DeidentifyStage:
    """See Stage. The thread of deliveries cleans; the loop tells."""

    name = metric_rows.NAME
    rows: Sequence[Row] = metric_rows.ROWS

    def __init__(self, state_dir: str, data_dir: str, options: DeidentifyOptions) -> None:
        self._state_dir, self._data_dir, self._options = state_dir, data_dir, options
        self._method = method_of(options)
        self._provider = provider_of(
            options.identifiers, options.identifiers_exec, options.identifiers_token, options.identifiers_timeout
        )
        self._provider_fault = self._vault_fault = ""
        self._outbox: SimpleQueue[Told] = SimpleQueue()
        self._held: Counter[str] = Counter()
        self._stopped = False
        self._next_count = 0.0
        #: Seconds until the next turn where nothing wakes it.
        self.pause = 1.0

    def begin(self, tools: Tools) -> Sequence[int]:
        """Open the vault, and start to take deliveries. Raises ConfigError for another key, StageFault."""
        self._tools = tools
        no_vault = self._options.no_vault
        self._vault = Vault.in_memory() if no_vault else Vault(self._state_dir, folder=self._options.vault)
        self._vault.claim(self._method.keys.fingerprint)
        self._units = Units(self._data_dir, self._options.into, self._method, self._vault, self._provider)
        self._workers = Workers(self._options.workers, Setup("listener.deidentify.work:worker", self._method))
        wants = text_of(Interest(("series-complete", "series-incomplete")))
        consumer = Consumer(self.name, "stage deidentify", wants, _LEASE)
        self._threads = DeliveryThreads(self._options.workers, consumer, self, self._state_dir)
        self._count_held()
        self._threads.start(self._answered)
        return ()

    # -- in the thread of deliveries -----------------------------------------------------------------------------------

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        """Clean what a delivery tells of. Raises NotTaken and Postponed; see Receiver."""
        if delivery.series is None or delivery.change is None:
            return
        begun = time.monotonic()
        series, is_incomplete = delivery.series, delivery.event.endswith("incomplete")
        task = task_of(self._state_dir, series, delivery.change.generation, is_incomplete=is_incomplete)
        result = self._processed(task, delivery, renew)
        self._provider_fault = self._vault_fault = ""
        if result.is_news:
            self._tell(delivery, task, result, time.monotonic() - begun)
            if task.batch and not result.passed:
                withhold(self._state_dir, task.batch)
        held = [row for row in result.held if not result.name or row.SeriesInstanceUID == series.SeriesInstanceUID]
        if held:
            # Not delivered: 'listener prune' keeps what is held.
            reasons = Counter(row.reason for row in held)
            told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            raise NotTaken(f"held for a person: {told}; 'listener deidentify held' lists them", is_final=True)

    def _processed(self, task: Task, delivery: Delivery, renew: Callable[[], None]) -> Result:
        """Have a worker clean a unit. Raises NotTaken and Postponed."""
        assert delivery.series

        def go_on() -> None:
            if self._stopped:
                raise NotTaken("the stage stopped meanwhile")
            renew()

        try:
            with self._workers.taken() as worker:
                return self._units.process(task, delivery.series.SeriesInstanceUID, worker.do, go_on)
        except FileNotFoundError as error:
            gone = next((one for one in (self._options.into, self._data_dir) if not os.path.isdir(one)), "")
            if gone:  # A volume that went comes back.
                raise NotTaken(f"'{gone}' is not there", _SOON) from error
            if delivery.attempts < _ATTEMPTS:
                raise Postponed("a file is not where the ledger says", _SOON) from error
            raise NotTaken("a file is not where the ledger says", is_final=True) from error
        except StageFault as fault:
            self._vault_fault = f"the vault cannot be used: {fault}"
            raise NotTaken(self._vault_fault, _SOON) from fault
        except ProviderFailed as failure:
            self._provider_fault = str(failure)
            self._outbox.put(("provider", {}))
            raise NotTaken(str(failure), _SOON) from failure
        except WorkerFailed as failure:
            # A unit that ends its worker again and again must not keep the others waiting.
            raise NotTaken(str(failure), is_final=delivery.attempts >= _ATTEMPTS) from failure
        except OSError as error:
            raise NotTaken(error.strerror or type(error).__name__, _SOON) from error

    def abort(self) -> None:
        """End the attempt that is under way; from any thread."""
        self._stopped = True

    def _tell(self, delivery: Delivery, task: Task, result: Result, seconds: float) -> None:
        assert delivery.series
        assert delivery.change
        held = Counter(row.reason for row in result.held)
        about = {
            "SeriesInstanceUID": delivery.series.SeriesInstanceUID,
            "generation": delivery.change.generation,
            **({"batch": task.batch} if task.batch else {}),
            "unit": result.name,
            "passed": result.passed,
            "filtered": result.filtered,
            "held": dict(sorted(held.items())),
        }
        self._outbox.put(("unit", {"about": about, "seconds": seconds}))
        self._tools.wakeup.set()

    def _answered(self, how: str, seconds: float) -> None:
        self._outbox.put(("answered", {"how": how, "seconds": seconds}))
        self._tools.wakeup.set()

    # -- in the loop ---------------------------------------------------------------------------------------------------

    def turn(self, now: float) -> float:
        """Tell what the thread has to tell."""
        told = False
        with contextlib.suppress(Empty):
            while True:
                kind, values = self._outbox.get_nowait()
                told = True
                if kind == "answered":
                    self._tools.answered(values["how"], values["seconds"])
                elif kind == "provider":
                    self._tools.metrics.add("deidentify_provider_failures_total", 1)
                else:
                    self._tell_unit(values["about"], values["seconds"])
        if told or now >= self._next_count:
            self._count_held()
        return now + self.pause

    def _tell_unit(self, about: Mapping[str, Any], seconds: float) -> None:
        metrics = self._tools.metrics
        metrics.add("deidentify_instances_total", about["passed"], "passed")
        metrics.add("deidentify_instances_total", about["filtered"], "filtered")
        metrics.add("deidentify_instances_total", sum(about["held"].values()), "held")
        metrics.add("deidentify_units_total", 1 if about["unit"] else 0)
        metrics.observe("deidentify_unit_duration_seconds", seconds)
        name = "deidentified" if about["unit"] else ("held" if about["held"] else "filtered")
        self._tools.events.service(name, time.time_ns(), **about)

    def _count_held(self) -> None:
        """Count what waits for a person."""
        self._next_count = time.monotonic() + 5.0
        self._held = self._units.held()
        for reason in holding.REASONS:
            self._tools.metrics.set("deidentify_held", self._held[reason], reason)

    def checks(self) -> Checks:
        """Tell whether what is clean can be handed over."""
        fine = os.access(self._options.into, os.W_OK | os.X_OK)
        found = {"into": (fine, "what is clean can be handed over" if fine else "--into cannot be written")}
        found["vault"] = (not self._vault_fault, self._vault_fault or "the vault can be used")
        if self._provider:
            found["identifiers"] = (not self._provider_fault, self._provider_fault or "pseudonyms are given")
        return found

    def shown(self) -> Mapping[str, Any]:
        """Return what is shown of the stage."""
        return {"into": self._options.into, "held": dict(self._held), "key": self._method.keys.fingerprint}

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is due; asked when that is to be the end."""
        self.pause = _HURRY
        return self._threads.is_idle

    def drain(self) -> bool:
        """Take nothing new; a unit that is under way is given back at its next file."""
        self.pause = _HURRY
        self._threads.finish()
        return not self._threads.is_working

    def end(self) -> None:
        """Stop."""
        self._threads.stop()
        self._workers.end()
        self.turn(time.monotonic())
        self._vault.close()
