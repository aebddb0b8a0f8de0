"""Path templates: pypx's language, its outputs, and errors that say what to do."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.planning import template, template_functions
from listener.planning.template import Template, TemplateError, compile_template
from listener.planning.template_functions import age_in_days, with_ages
from tests.template_cases import DIFFERENT, LAYOUTS, REFUSED, SAME, TAGS, Case, known

KEYWORDS = ("PatientID", "PatientName", "StudyDate", "SeriesInstanceUID", "SeriesNumber")


def render(case: Case) -> str:
    """As a caller does: ages first, then a text for what is missing or empty (here px's, `%Keyword`), then render."""
    compiled = compile_template(case.template, known)
    values = with_ages(case.values())
    return compiled.render({name: values.get(name, f"%{name}") for name in compiled.fields})


@pytest.mark.parametrize("case", [*SAME, *DIFFERENT], ids=repr)
def test_output(case: Case) -> None:
    assert render(case) == case.ours, case.why


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.template)
def test_what_pypx_would_leave_in_the_path_or_die_of_is_refused(case: Case) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_template(case.template, known)
    message = str(caught.value)
    assert repr(case.template) in message
    assert "character " in message
    assert "; " in message, "it must say what to do"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "%SeriesNumber/%_foo|3_PatientID",
            (
                "template '%SeriesNumber/%_foo|3_PatientID', character 17: unknown function 'foo'; "
                "use one of pad, md5, seahash, strmsk, nospc, name"
            ),
        ),
        (
            "%Nonsense",
            (
                "template '%Nonsense', character 2: 'Nonsense' is no DICOM keyword; "
                "take one of PS3.6, as SeriesDescription"
            ),
        ),
        (
            "%_pad|5,ab_SeriesNumber",
            (
                "template '%_pad|5,ab_SeriesNumber', character 3: pad: 'ab' to fill with is not one character; "
                "write %_pad|WIDTH,CHARACTER_Keyword, such as %_pad|5,0_SeriesNumber"
            ),
        ),
        (
            "%_pad|999_SeriesNumber",
            (
                "template '%_pad|999_SeriesNumber', character 3: pad: a width of 999 is more than a file name may have"
                "; write %_pad|WIDTH,CHARACTER_Keyword, such as %_pad|5,0_SeriesNumber"
            ),
        ),
        (
            "50% off",
            (
                "template '50% off', character 3: no DICOM keyword behind %; "
                "write %Keyword or %_function|arguments_Keyword, without _ or % in the arguments"
            ),
        ),
    ],
)
def test_a_message_names_template_place_fault_and_remedy(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_template(text, known)
    assert str(caught.value) == message


def test_the_usage_of_every_function_compiles() -> None:
    for name, usage in template_functions.USAGE.items():
        example = usage.rsplit(" ", 1)[-1]
        compile_template(example, known)
        assert f"%_{name}" in example


@pytest.mark.parametrize(
    ("text", "keywords", "fields"),
    [
        ("", (), ()),
        ("literal", (), ()),
        ("%PatientName-%PatientID-%PatientName", ("PatientName", "PatientID"), ("PatientName", "PatientID")),
        ("%_name|patientID_PatientName", ("PatientID",), ("PatientID",)),
        ("%AgeInDays", ("StudyDate", "PatientBirthDate"), ("AgeInDays",)),
        ("%StudyDate-%PatientAge", ("StudyDate", "PatientAge", "PatientBirthDate"), ("StudyDate", "PatientAge")),
        ("%AcquisitionDateTime", ("AcquisitionDateTime",), ("AcquisitionDateTime",)),
        ("%PatientIDText", ("PatientID",), ("PatientID",)),
    ],
)
def test_what_is_read_and_what_is_looked_up(text: str, keywords: tuple[str, ...], fields: tuple[str, ...]) -> None:
    compiled = compile_template(text, known)
    assert (compiled.keywords, compiled.fields) == (keywords, fields)


def test_without_a_dictionary_a_keyword_is_all_its_letters_and_digits() -> None:
    assert compile_template("%PatientIDText.x").keywords == ("PatientIDText",)


def test_layouts_read_what_they_look_up() -> None:
    for case in LAYOUTS:
        compiled = compile_template(case.template, known)
        assert compiled.keywords == compiled.fields


def test_a_field_without_a_value_is_the_callers_mistake() -> None:
    with pytest.raises(KeyError):
        compile_template("%PatientID").render({})


def test_a_name_is_always_the_same_and_hides_the_value() -> None:
    compiled = compile_template("%_name|patientID_PatientName")
    assert compiled.render({"PatientID": "P1"}) == compiled.render({"PatientID": "P1"})
    names = {compiled.render({"PatientID": f"P{number}"}) for number in range(3000)}
    assert len(names) == 256
    assert all(name.endswith("^ANON") and name.count("^") == 2 for name in names)


@pytest.mark.parametrize(
    ("study", "birth", "days"),
    [
        ("20200301", "20200229", 1),
        ("20200229", "20200301", 1),
        ("2020-03-01", "20200301", 0),
        ("", "20200301", None),
        ("20200301", "", None),
        ("20200231", "20200101", None),
        ("2020.03.01", "20200101", None),
        ("StudyDate", "PatientBirthDate", None),
    ],
)
def test_age_in_days(study: str, birth: str, days: int | None) -> None:
    assert age_in_days(study, birth) == days


def test_ages_leave_the_values_given_alone() -> None:
    values = {"StudyDate": "20200301", "PatientBirthDate": "20000101"}
    assert with_ages(values) == {**values, "PatientAge": "020Y", "AgeInDays": "007365d"}
    assert values == {"StudyDate": "20200301", "PatientBirthDate": "20000101"}
    assert with_ages({"PatientAge": "003Y"}) == {"PatientAge": "003Y"}


ANY_TEXT = st.text(st.characters(codec=None), max_size=30)
LITERAL = st.text(st.characters(exclude_characters="%"), max_size=10)
ARGUMENT = st.text(st.characters(exclude_characters="%_"), max_size=6)


@given(ANY_TEXT)
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        compiled = compile_template(text, known)
    except TemplateError:
        return
    assert compiled.text == text


@given(st.sampled_from([*template_functions.USAGE, "x"]), st.none() | ARGUMENT, ANY_TEXT)
def test_whatever_compiles_renders_any_value(function: str, argument: str | None, value: str) -> None:
    bar = "" if argument is None else f"|{argument}"
    try:
        compiled = compile_template(f"%_{function}{bar}_PatientID")
    except TemplateError:
        return
    rendered = compiled.render(dict.fromkeys(compiled.fields, value))
    assert rendered == compiled.render(dict.fromkeys(compiled.fields, value))


@given(
    st.lists(st.tuples(LITERAL, st.sampled_from(KEYWORDS)), max_size=6),
    st.dictionaries(st.sampled_from(KEYWORDS), ANY_TEXT),
)
def test_text_and_values_stand_where_they_were_written(parts: list[tuple[str, str]], values: dict[str, str]) -> None:
    values = {**dict.fromkeys(KEYWORDS, "%PatientID %s %(x)s"), **values}
    compiled = compile_template("".join(f"{literal}/%{keyword}/" for literal, keyword in parts), known)
    assert compiled.render(values) == "".join(f"{literal}/{values[keyword]}/" for literal, keyword in parts)
    assert set(compiled.keywords) == {keyword for _, keyword in parts}


@given(ANY_TEXT, st.integers(-3, 255), st.characters(codec="utf-8", exclude_characters="%_|,"))
def test_padding_only_adds_to_the_left(value: str, width: int, char: str) -> None:
    rendered = compile_template(f"%_pad|{width},{char}_PatientID").render({"PatientID": value})
    assert rendered.endswith(value)
    assert len(rendered) == max(len(value), width)
    assert set(rendered[: len(rendered) - len(value)]) <= {char}


def test_a_template_is_a_value() -> None:
    text = LAYOUTS[0].template
    assert compile_template(text).keywords == compile_template(text).keywords
    with pytest.raises(AttributeError):
        compile_template(text).text = "x"  # type: ignore[misc]
    assert repr(compile_template("%PatientID")) == (
        "Template(text='%PatientID', keywords=('PatientID',), fields=('PatientID',))"
    )


@pytest.mark.parametrize("module", [template, template_functions, sys.modules["listener.planning.template_functions"]])
def test_the_language_is_pure(module: object) -> None:
    source = Path(str(getattr(module, "__file__", ""))).read_text(encoding="utf-8")
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes}
    assert not names & {"os", "time", "pydicom", "watchdog", "prometheus_client", "pathlib", "random"}


def test_tags_of_the_cases_are_dicom() -> None:
    assert all(known(name) for name in TAGS)
    assert isinstance(compile_template("x"), Template)
