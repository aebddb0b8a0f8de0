"""Our template language against pypx's own function."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listener.planning.seahash import seahash_hex
from listener.planning.template import compile_template
from tests.compat.pypx import Pypx
from tests.template_cases import DIFFERENT, REFUSED, SAME, TAGS, Case, known

Ask = Callable[[dict[str, str], str], str]


@pytest.fixture(scope="module")
def ask(pypx: Pypx) -> Iterator[Ask]:
    with pypx.templates() as function:
        yield function


def has_seahash(pypx: Pypx) -> bool:
    return not pypx.version.startswith("3.11")


@pytest.mark.parametrize("case", [*SAME, *DIFFERENT, *REFUSED], ids=repr)
def test_what_the_cases_say_of_pypx_is_true(pypx: Pypx, ask: Ask, case: Case) -> None:
    if "seahash" in case.template and not has_seahash(pypx):
        assert "seahash" in ask(case.values(), case.template), "3.11 leaves the function standing"
        return
    expected = case.ours if case.theirs is None else case.theirs
    assert ask(case.values(), case.template) == expected


# Where pypx is sound: each keyword once, none inside another, present, and no function's name in the literal text.
KEYWORDS = [name for name in TAGS if not name.startswith("Acquisition")]
LITERAL = st.text("-. ABXYZ019_/^", max_size=4)
VALUE = st.text(st.characters(codec="utf-8", exclude_characters="%_|"), max_size=20)
FUNCTION = st.one_of(
    st.just(""),
    st.builds("_pad|{},{}_".format, st.integers(-2, 12), st.sampled_from("0x*. -")),
    st.builds("_pad|{}_".format, st.integers(0, 12)),
    st.just("_md5_") | st.builds("_md5|{}_".format, st.integers(-3, 40)),
    st.just("_seahash_") | st.builds("_seahash|{}_".format, st.integers(-3, 20)),
    st.builds("_strmsk|{}_".format, st.text("**xX0-. ", max_size=12)),
    st.just("_nospc_") | st.builds("_nospc|{}_".format, st.text("-.xy ", max_size=3)),
)


@st.composite
def templates(draw: st.DrawFn) -> str:
    names = draw(st.lists(st.sampled_from(KEYWORDS), unique=True, max_size=5))
    return draw(LITERAL) + "".join(f"%{draw(FUNCTION)}{name}{draw(LITERAL)}" for name in names)


@settings(max_examples=400, deadline=None)
@given(template=templates(), tags=st.fixed_dictionaries(dict.fromkeys(KEYWORDS, VALUE)))
def test_any_sound_template_gives_what_pypx_gives(pypx: Pypx, ask: Ask, template: str, tags: dict[str, str]) -> None:
    if not has_seahash(pypx):
        template = template.replace("_seahash", "_md5")
    assert compile_template(template, known).render(tags) == ask(tags, template)


@pytest.fixture(scope="module")
def ask_newest(newest_pypx: Pypx) -> Iterator[Ask]:
    with newest_pypx.templates() as function:
        yield function


@settings(max_examples=400, deadline=None)
@given(value=st.text(st.characters(codec="utf-8"), max_size=80))
def test_seahash_is_the_package_that_pypx_uses(ask_newest: Ask, value: str) -> None:
    assert seahash_hex(value) == ask_newest({"SeriesInstanceUID": value}, "%_seahash_SeriesInstanceUID")
