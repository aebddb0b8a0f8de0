"""PURE. The presets of path templates, and a layout made ready to render.

Layouts: `rx` is rx-repack 1.0.3, `px` pypx 3.12, `px311` pypx 3.11, `oxidicom` oxidicom 4 (one directory for each calling
AE title). `/` in a template makes directories; a value never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from listener.names import sanitize
from listener.template import Template, compile_template

_PATIENT = "%PatientID-%PatientName-%PatientBirthDate"
_STUDY = "%StudyDescription-%AccessionNumber-%StudyDate"
_IMAGE = "%_pad|4,0_InstanceNumber-%SOPInstanceUID"
_NUMBERED = "%_pad|5,0_SeriesNumber-%SeriesDescription"
_HASHED = "%_seahash|7_SeriesInstanceUID"


@dataclass(frozen=True, slots=True)
class Preset:
    """Templates of the four levels; `missing` is put before the keyword of an absent attribute, `blank` attributes may be
    empty, and `trim` takes spaces from both ends of a value (rx-repack does, pypx does not)."""

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
    """Templates compiled once; renders where an instance goes.

    `keywords` are the DICOM keywords that the templates read.
    """

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        directory = "/".join((preset.root, preset.study, preset.series))
        self._components = tuple(compile_template(part) for part in directory.split("/"))
        *above, image = preset.image.split("/")
        self._components += tuple(compile_template(part) for part in above)
        self._image = compile_template(image)
        self._directory_keywords = _keywords(self._components)
        self.keywords = frozenset(self._directory_keywords) | frozenset(self._image.keywords)
        # All instances of a series share their directory, so it is rendered once a series, not once a file.
        self._directory = lru_cache(maxsize=4096)(self._render_directory)

    def directory(self, values: Mapping[str, str]) -> str:
        """The directory below the data root, components joined with `/`."""
        return self._directory(tuple([self._text(values, keyword) for keyword in self._directory_keywords]))

    def stem(self, values: Mapping[str, str]) -> str:
        """The file's name without `.dcm`, not yet sanitised."""
        return self._image.render({key: self._text(values, key) for key in self._image.keywords})

    def _text(self, values: Mapping[str, str], keyword: str) -> str:
        text = values.get(keyword, "")
        if self.preset.trim:
            text = text.strip()
        if text or keyword in self.preset.blank:
            return text
        return self.preset.missing + keyword

    def _render_directory(self, texts: tuple[str, ...]) -> str:
        values = dict(zip(self._directory_keywords, texts, strict=True))
        return "/".join(sanitize(component.render(values)) for component in self._components)


def _keywords(templates: tuple[Template, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keyword for one in templates for keyword in one.keywords))


def choose(name: str, root: str = "", study: str = "", series: str = "", image: str = "") -> Preset:
    """The preset `name` with single templates replaced where they are given."""
    given = {"root": root, "study": study, "series": series, "image": image.removesuffix(".dcm")}
    return replace(LAYOUTS[name], **{level: template for level, template in given.items() if template})
