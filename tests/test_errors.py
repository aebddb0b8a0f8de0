"""A closed set of reasons, each with a class or a use; a docstring is the message, an attribute the exit status."""

from __future__ import annotations

import ast
import errno
import inspect
from pathlib import Path

import pytest

from listener import errors, reasons
from listener.errors import STEPS, ConfigError, ListenerError
from listener.reasons import HELD_UP_REASONS, SET_ASIDE_REASONS, SYSTEM_REASONS, FileFault, system_reason

CLASSES = [
    one
    for module in (errors, reasons)
    for one in vars(module).values()
    if inspect.isclass(one) and issubclass(one, ListenerError) and one.__module__ == module.__name__
]
FAULTS = [one for one in CLASSES if issubclass(one, FileFault) and one is not FileFault]
PACKAGE = Path(errors.__file__).parent

#: Reasons that no class of a file's fault stands for, and why.
WITHOUT_A_CLASS = {
    "superseded": "not a fault: the older of two data sets is kept under it",
    "internal": "whatever else a parser raises",
    "uid-mismatch": "given by earlier versions, whose set-aside files may still lie there",
}


def strings_of_the_package() -> set[str]:
    """Every text constant in the program but in reasons.py itself."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name != "reasons.py":
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            found |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return found


def test_every_reason_has_a_class_or_a_use() -> None:
    assert {one.reason for one in FAULTS} | WITHOUT_A_CLASS.keys() == set(SET_ASIDE_REASONS)
    assert len({one.reason for one in FAULTS}) == len(FAULTS)
    assert WITHOUT_A_CLASS.keys() - {"uid-mismatch"} <= strings_of_the_package()


def test_every_class_is_raised_somewhere() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name != "reasons.py")
    assert [one.__name__ for one in FAULTS if one.__name__ not in text] == []


@pytest.mark.parametrize("kind", CLASSES)
def test_a_docstring_is_the_message(kind: type[ListenerError]) -> None:
    first = (kind.__doc__ or "").strip().splitlines()[0]
    assert first.endswith((".", ")."))
    assert kind.exit_code in (1, 2)
    if kind is not ConfigError:
        assert str(kind()) == first
        assert str(kind("a detail")) == f"{first.rstrip('.')}: a detail"


def test_a_wrong_configuration_ends_with_two_and_everything_else_with_one() -> None:
    assert {one.exit_code for one in CLASSES if issubclass(one, ConfigError)} == {2}
    assert {one.exit_code for one in CLASSES if not issubclass(one, ConfigError)} == {1}
    assert str(ConfigError(["one", "two"])) == "one\ntwo"


def test_sets_are_closed_and_do_not_overlap() -> None:
    assert (*SYSTEM_REASONS, "locked") == HELD_UP_REASONS
    assert len(set(SET_ASIDE_REASONS) | set(SYSTEM_REASONS)) == len(SET_ASIDE_REASONS) + len(SYSTEM_REASONS)
    assert STEPS == ("claim", "read", "place", "describe", "release")
    for word in SET_ASIDE_REASONS + SYSTEM_REASONS + STEPS:
        assert word.replace("-", "").isalpha()
        assert word.islower()


@pytest.mark.parametrize("reason", SET_ASIDE_REASONS)
def test_every_reason_has_a_remedy_of_one_line(reason: str) -> None:
    text = reasons.remedy(reason)
    assert 10 < len(text) < 110
    assert text == text.strip(" .\n")
    assert "\n" not in text


def test_no_two_classes_share_a_remedy() -> None:
    texts = [reasons.remedy(one.reason) for one in FAULTS]
    assert len(set(texts)) == len(texts)


REFUSALS = {
    "no-space": (errno.ENOSPC, errno.EDQUOT),
    "permission": (errno.EROFS, errno.EACCES, errno.EPERM),
    "timeout": (errno.ETIMEDOUT,),
    "io-error": (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM, errno.ENOTDIR, 0),
}


@pytest.mark.parametrize(("reason", "numbers"), REFUSALS.items())
def test_errors_of_the_system_have_a_word_each(reason: str, numbers: tuple[int, ...]) -> None:
    assert {system_reason(OSError(number, "x")) for number in numbers} == {reason}
    assert set(REFUSALS) == set(SYSTEM_REASONS)


def test_every_number_of_the_system_has_a_word() -> None:
    assert {system_reason(OSError(number, "x")) for number in errno.errorcode} <= set(SYSTEM_REASONS)
    assert system_reason(OSError("no number")) in SYSTEM_REASONS
