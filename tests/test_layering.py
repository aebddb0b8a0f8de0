"""The rules of the code: layers without cycles, pure modules, one place for each dependency, small modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import listener

PACKAGE = Path(listener.__file__).parent
#: By dotted path below the package: `repacking.place`.
PATHS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if not path.stem.startswith("__")
}
MODULES = sorted(PATHS)

#: From below to above: a package imports what stands in its own row or below. The modules beside the packages that
#: hold words and settings lie under all of them, `cli`, `arguments` and `verbs` above.
FLOORS = (
    {"dicom", "planning"},
    {"disk"},
    {"network", "repacking", "telemetry"},
    {"ledger"},
    {"frames", "status", "hooks"},
    {"service"},
    {"stages"},
    {"deidentify", "export", "notify", "route", "serve"},
    {"checks", "verification", "quickstart", "oneshot"},
    {"backfill", "benchmark"},
    {"commands"},
)

#: Packages of stages, each a program beside `listener run`, and what they may import: nothing of the service, no other
#: stage. `stages` is the floor on which all of them stand.
STAGES = {"deidentify", "export", "notify", "route", "serve", "stages"}
FOR_STAGES = {"dicom", "planning", "disk", "frames", "network", "telemetry", "ledger", "status"}
#: What stages alone need.
NOT_OF_THE_CORE = STAGES | {"frames", "network"}

#: Rules and data only: what they say depends on their arguments alone. Whoever says PURE of itself is held to it too.
PURE = {module for module in MODULES if PATHS[module].read_text(encoding="utf-8").startswith('"""PURE')}
PURE |= {
    "dicom.attributes",
    "dicom.loading",
    "dicom.texts",
    "errors",
    "reasons",
    "parse",
    "planning.documents",
    "planning.plan",
    "planning.names",
    "planning.template_functions",
    "planning.template",
    "records",
    "service.backlog",
    "service.breaker",
    "telemetry.metric_rows",
    "telemetry.health",
}

#: What would make them depend on the machine, the moment or a library that may change.
IMPURE = {
    "os",
    "time",
    "pydicom",
    "watchdog",
    "prometheus_client",
    "tenacity",
    "subprocess",
    "socket",
    "threading",
    "logging",
    "random",
    "secrets",
    "pathlib",
    "shutil",
    "sys",
    "io",
    "signal",
}

#: (module, import): why it may.
EXCEPTIONS = {
    ("parse", "os"): "os.path.abspath makes directories of the command line absolute",
    ("dicom.loading", "pydicom"): "the library itself, when it is first needed",
    ("dicom.loading", "threading"): "its modules import each other: one thread at a time",
    ("deidentify.recipe", "pydicom"): "the dictionary of keywords and names, by which recipes mean elements",
    ("dicom.attributes", "pydicom"): "the dictionary of unusual keywords, imported when one is met",
}

#: The only modules that may import a dependency.
DOORS = {
    "watchdog": {"service.observers", "service.inotify", "service.batch_watch"},
    "prometheus_client": {"telemetry.metrics"},
    "jinja2": {"status.page"},
    "tenacity": {"disk.retry"},
    "obstore": {"export.objects", "frames.store"},
    "urllib3": {"frames.dicomweb"},
    "celery": {"notify.broker"},
    "kombu": {"notify.broker"},
    "nats": {"notify.nats_client"},
    "numpy": {"serve.rendering"},
    "PIL": {"serve.rendering"},
    "arro3": {"export.parquet"},
    "pydicom": {
        "deidentify.recipe",
        "deidentify.recipe_filter",
        "deidentify.reversing",
        "serve.describing",
        "serve.reencoding",
        "serve.rendering",
        "dicom.loading",
        "dicom.decoding",
        "dicom.attributes",
        "dicom.reader",
        "network.implicit",
        "quickstart.synthetic",
        "benchmark.protocols",
        "benchmark.serving",
        "checks.check",
    },
}

#: Where every exception is caught, and why there. A line's comment tells more.
BROAD = {
    "repacking.repack": "one of the two places: a file's failure is its own, never the batch's",
    "dicom.decoding": "whatever pydicom raises about one value, the others are still to be had",
    "network.implicit": "whatever pydicom raises while it re-encodes is this one file's",
    "deidentify.reversing": "whatever pydicom raises over one object, the others are still to be given back",
    "deidentify.recipe_filter": "whatever pydicom raises while a filter looks at this one file",
    "stages.worker_process": "a task's failure is its own, and its text may name a patient",
    "serve.app": "a defect is one answer's, never the end of the service",
    "serve.describing": "whatever pydicom raises of a value or an instance, the others are to be had",
    "serve.reencoding": "whatever pydicom raises of an instance, it cannot be written in that form",
    "serve.rendering": "whatever pydicom and codecs raise about a frame, it cannot be shown",
    "ledger.delivery_threads": "a defect of a receiver is a failure of one delivery, and the thread goes on",
    "frames.loader": "whatever a load raises, its frames are not there, and the cache goes on",
    "ledger.thread": "a defect of the ledger's is told, and never intake's trouble",
    "service.watch": "whatever watchdog raises, rescans find the files, and the watch is made again",
    "export.receiver": "a defect that one series meets is that series' own; the others are exported",
    "api": "a function of another program's: its failure is tried again",
    "telemetry.http_messages": "a page that fails is an answer, never the end of the server",
}

#: (module, function): why it may be longer.
LONG = {
    ("dicom.fast_walk", "_walk_fast"): "the hot loop of the whole program, in which a call costs as much as an element",
}

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 40
MOST_PARAMETERS = 6

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Dotted names of all that a module imports, wherever the import stands; `from a import b` gives `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative imports hide the name of what is imported"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def ours(module: str, names: frozenset[str] | None = None) -> set[str]:
    """Our modules that a module imports."""
    dotted = {name.removeprefix("listener.") for name in (imports(module) if names is None else names)}
    return (dotted & PATHS.keys()) - {module}


def package_of(module: str) -> str:
    """The package that a module lies in; "" beside the packages."""
    return module.rpartition(".")[0]


def top_level_names(module: str) -> set[str]:
    """What a module imports, by the first part of its name."""
    return {name.split(".")[0] for name in imports(module)}


def functions(module: str) -> Iterator[Function]:
    for node in ast.walk(tree(module)):
        if isinstance(node, Function):
            yield node


def at_the_top(module: str) -> frozenset[str]:
    """What is imported when the module is, types only for the checker left out."""
    found: set[str] = set()
    for node in tree(module).body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def test_the_names_here_are_modules() -> None:
    named = PURE | BROAD.keys() | {module for modules in DOORS.values() for module in modules}
    assert named <= set(MODULES)
    assert {module for module, _ in EXCEPTIONS} <= PURE


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    height = {package: number for number, floor in enumerate(FLOORS) for package in floor}
    own = height.get(package_of(module), len(FLOORS))
    for other in ours(module):
        assert height.get(package_of(other), -1) <= own, f"{module} imports {other}"


def test_the_core_imports_no_stage() -> None:
    """The benchmark is no part of it: it sends by the sender of stages."""
    for module in MODULES:
        if package_of(module) not in NOT_OF_THE_CORE | {"commands", "benchmark"}:
            assert not {package_of(other) for other in ours(module)} & NOT_OF_THE_CORE, module


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_imports_what_is_meant_for_stages(stage: str) -> None:
    for module in MODULES:
        if package_of(module) == stage:
            assert {package_of(other) for other in ours(module)} <= {"", "stages", stage} | FOR_STAGES, module


def test_no_module_imports_itself_over_others() -> None:
    """Also not by imports within functions, which would only hide it."""
    edges = {module: ours(module) for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for other in sorted(edges[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_pure_module_imports_nothing_of_the_machine(module: str) -> None:
    impure = {name for name in top_level_names(module) & IMPURE if (module, name) not in EXCEPTIONS}
    assert impure == set()
    assert ours(module) <= PURE, "a pure module knows pure ones only"


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_an_exception_that_is_not_needed_any_more_goes(exception: tuple[str, str]) -> None:
    module, name = exception
    assert name in top_level_names(module)


@pytest.mark.parametrize("dependency", DOORS)
def test_a_dependency_has_its_doors(dependency: str) -> None:
    users = {module for module in MODULES if dependency in top_level_names(module)}
    assert users <= DOORS[dependency]
    assert users, "declared and not used"


def test_pydicom_is_imported_when_it_is_needed() -> None:
    """It costs 90 ms and 30 MB: a command that starts must not have it."""
    reach: set[str] = set()
    pending = [
        "cli",
        "service.worker",
        "service.run",
        "checks.check",
        "verification.verify",
        *(module for module in MODULES if module.startswith("commands.")),
    ]
    while pending:
        module = pending.pop()
        if module not in reach:
            reach.add(module)
            pending += ours(module, at_the_top(module))
    assert [module for module in sorted(reach) if any("pydicom" in name for name in at_the_top(module))] == []


def test_workers_know_nothing_of_the_parent_s_things() -> None:
    """Workers do not log, count or decide: they report."""
    reach: set[str] = set()
    pending = ["service.worker"]
    while pending:
        module = pending.pop()
        if module not in reach:
            reach.add(module)
            pending += ours(module)
    assert not reach & {
        "telemetry.metrics",
        "telemetry.events",
        "telemetry.server",
        "service.engine",
        "service.run",
        "service.backlog",
        "service.watch",
        "diagnostics",
        "cli",
        "verbs",
    }


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_small(module: str) -> None:
    lines = PATHS[module].read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES, f"{module} has {lines} lines"


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short_with_few_parameters(module: str) -> None:
    long = {}
    for function in functions(module):
        lines = (function.end_lineno or 0) - function.lineno + 1
        arguments = function.args
        count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
        count -= bool(arguments.args) and arguments.args[0].arg in ("self", "cls")
        too_long = lines > MOST_LINES_OF_A_FUNCTION and (module, function.name) not in LONG
        if too_long or count > MOST_PARAMETERS:
            long[function.name] = f"{lines} lines, {count} parameters"
    assert long == {}


@pytest.mark.parametrize("module", MODULES)
def test_no_global_is_changed(module: str) -> None:
    assert not [node for node in ast.walk(tree(module)) if isinstance(node, ast.Global)]


@pytest.mark.parametrize("module", MODULES)
def test_every_exception_is_caught_in_named_places_only(module: str) -> None:
    broad = [node.lineno for node in ast.walk(tree(module)) if isinstance(node, ast.ExceptHandler) and _is_broad(node)]
    assert not broad or module in BROAD, f"{module}, lines {broad}"


def _is_broad(node: ast.AST) -> bool:
    """`except Exception`, and `except BaseException` unless it only cleans up and goes on raising."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    names = {one.id for one in caught if isinstance(one, ast.Name)}
    raises = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
    return (node.type is None or bool(names & {"Exception", "BaseException"})) and not raises


def test_named_places_exist() -> None:
    for module, name in LONG:
        assert name in {function.name for function in functions(module)}
    for module in BROAD:
        assert any(_is_broad(node) for node in ast.walk(tree(module))), f"{module} needs no entry any more"


def test_no_test_imports_from_another() -> None:
    """What several need is a module of its own beside them, without `test_` before its name."""
    pattern = re.compile(
        r"^\s*(?:from tests\.(?:\w+\.)*test_\w+ import|from tests[\w.]* import .*\btest_\w+)", re.MULTILINE
    )
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    assert [path.name for path in sources if pattern.search(path.read_text(encoding="utf-8"))] == []
