"""PURE. Plan where an instance goes, from its header and the path templates of a layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from listener.dicom.attributes import Header, is_keyword
from listener.planning.names import MAX_COMPONENT, sanitize
from listener.planning.template import compile_template
from listener.planning.template_functions import AGE_IN_DAYS, with_ages

_PATIENT = "%PatientID-%PatientName-%PatientBirthDate"
_STUDY = "%StudyDescription-%AccessionNumber-%StudyDate"
_IMAGE = "%_pad|4,0_InstanceNumber-%SOPInstanceUID"
_NUMBERED = "%_pad|5,0_SeriesNumber-%SeriesDescription"
_HASHED = "%_seahash|7_SeriesInstanceUID"


@dataclass(frozen=True, slots=True)
class Preset:
    """Templates of the four levels; `missing` is put before the keyword of an absent attribute, `blank` attributes may
    be empty, and `trim` strips spaces from both ends of a value (rx-repack does, pypx does not).
    """

    root: str
    study: str
    series: str
    image: str
    missing: str = ""
    blank: frozenset[str] = frozenset()
    trim: bool = False


LAYOUTS: dict[str, Preset] = {
    "rx": Preset(_PATIENT, _STUDY, f"{_NUMBERED}-{_HASHED}", _IMAGE, trim=True),
    "px": Preset(_PATIENT, _STUDY, f"%SeriesDescription-{_HASHED}", _IMAGE, missing="_"),
    "px311": Preset(_PATIENT, _STUDY, _NUMBERED, _IMAGE, missing="_"),
    "oxidicom": Preset(
        f"SERVICES/PACS/%SourceApplicationEntityTitle/{_PATIENT}",
        _STUDY,
        f"{_NUMBERED}-{_HASHED}",
        _IMAGE,
        blank=frozenset({"PatientName", "PatientBirthDate"}),
        trim=True,
    ),
}


class Layout:
    """Compiled templates of a preset.

    `keywords` are the DICOM keywords that the templates read. In the image template `/` is an ordinary character.
    """

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        directory = f"{preset.root}/{preset.study}/{preset.series}"
        self._components = tuple(compile_template(part, is_keyword) for part in directory.split("/"))
        self._image = compile_template(preset.image, is_keyword)
        every = (*self._components, self._image)
        self.keywords = frozenset(keyword for template in every for keyword in template.keywords)
        self._fields = tuple(dict.fromkeys(field for template in self._components for field in template.fields))
        self._ages = any({"PatientAge", AGE_IN_DAYS} & set(template.fields) for template in every)
        # Cached: all instances of a series have the same directory.
        self._directory = lru_cache(maxsize=1024)(self._render_directory)

    def place(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Return the directory relative to data (components joined with `/`), and the raw file name without `.dcm`."""
        if self._ages:
            values = with_ages(values)
        directory = self._directory(tuple([values.get(field, "") for field in self._fields]))
        return directory, self._image.render(
            {field: self._text(values.get(field, ""), field) for field in self._image.fields}
        )

    def _text(self, text: str, field: str) -> str:
        if self.preset.trim:
            text = text.strip()
        if text or field in self.preset.blank:
            return text
        return self.preset.missing + field

    def _render_directory(self, texts: tuple[str, ...]) -> str:
        values = {field: self._text(text, field) for field, text in zip(self._fields, texts, strict=True)}
        return "/".join(sanitize(component.render(values)) for component in self._components)


def choose_preset(name: str, root: str = "", study: str = "", series: str = "", image: str = "") -> Preset:
    """Return the preset `name` with the templates that are given in place of its own."""
    preset = LAYOUTS[name]
    return replace(
        preset,
        root=root or preset.root,
        study=study or preset.study,
        series=series or preset.series,
        image=image.removesuffix(".dcm") or preset.image,
    )


#: Attributes in every instance's own document (pypx's `<file>.dcm.json`).
INSTANCE_KEYWORDS = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "SeriesDescription",
    "SeriesNumber",
    "SeriesDate",
    "Modality",
)

#: Further attributes in the documents of a patient and a study.
SHARED_KEYWORDS = (
    "PatientName",
    "PatientAge",
    "PatientSex",
    "PatientBirthDate",
    "StudyDescription",
    "StudyDate",
    "PerformedStationAETitle",
)


class Plan(NamedTuple):
    """Where an instance goes: `directory` relative to data, and `name` with `.dcm`."""

    directory: str
    name: str

    @property
    def relative(self) -> str:
        """Return the path relative to data."""
        return f"{self.directory}/{self.name}"


def make_plan(header: Header, layout: Layout) -> Plan:
    """Return where the instance of `header` goes: always below data, since each component is sanitised."""
    values = header.values
    if "SourceApplicationEntityTitle" in layout.keywords:
        values = {**values, "SourceApplicationEntityTitle": header.SourceApplicationEntityTitle}
    directory, raw = layout.place(values)
    # `.dcm` must survive the cut, so it is not part of what is cut.
    stem = sanitize(raw, MAX_COMPONENT - 4)
    if stem.startswith("."):  # Readers count every file: none may be hidden.
        stem = f"_{stem[1:]}"
    return Plan(directory, f"{stem}.dcm")


def missing_keywords(header: Header, keywords: frozenset[str] | tuple[str, ...]) -> list[str]:
    """Return the wanted keywords for which the instance has no value, in a fixed order."""
    values = header.values
    return [keyword for keyword in keywords if keyword not in values and keyword != "SourceApplicationEntityTitle"]
