"""What `listener check` asks of the templates: every instance must get a path of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from listener.checks.finding import NOTE, OK, PROBLEM, Finding
from listener.config import Config
from listener.planning import layouts
from listener.planning.layouts import Layout

#: Instances that are placed to see whether paths meet; short hashes give themselves away.
_MANY = 4096


def templates(config: Config) -> Iterator[Finding]:
    """Whether instances that differ in nothing but their UIDs could ever meet on one path."""
    layout = Layout(
        layouts.choose(
            config.layout, config.root_template, config.study_template, config.series_template, config.image_template
        )
    )
    values = dict.fromkeys(layout.keywords, "1")
    paths = {layout.place({**values, "SOPInstanceUID": f"1.2.{number}"}) for number in range(_MANY)}
    remedy = "put %SOPInstanceUID into it"
    if len(paths) == 1:
        text = "different instances would get one path: SOPInstanceUID is in no template"
        yield Finding(PROBLEM, "--image-template", text, remedy)
    elif len(paths) < _MANY:
        text = f"different instances would get one path: of {_MANY} that were tried {_MANY - len(paths)} did"
        yield Finding(PROBLEM, "--image-template", text, remedy)
    elif not _holds_uid(layout, values):
        text = "SOPInstanceUID is in the templates only in part: two instances could get one path"
        yield Finding(NOTE, "--image-template", text, f"{remedy} as it is; the second would be set aside as conflict")
    else:
        yield Finding(OK, "--layout", "every instance gets a path of its own")
    if _directory(layout, values, "1.2.3") == _directory(layout, values, "1.2.4"):
        text = "series of the same description share a directory: SeriesInstanceUID is in no template of one"
        yield Finding(NOTE, "--series-template", text, "put %_seahash|7_SeriesInstanceUID into it, or use --layout rx")


def _holds_uid(layout: Layout, values: Mapping[str, str]) -> bool:
    """Whether the whole UID can be read from the path, as long as a UID can be."""
    uid = "2.25." + "340282366920938463463374607431768211455"[:39]
    directory, name = layout.place({**values, "SOPInstanceUID": uid})
    return uid in directory or uid in name


def _directory(layout: Layout, values: Mapping[str, str], series: str) -> str:
    return layout.place({**values, "SeriesInstanceUID": series})[0]
