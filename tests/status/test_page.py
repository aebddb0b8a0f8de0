"""Pages from templates: nothing that a sender chose becomes markup, nothing is fetched, the badge tells the truth."""

from __future__ import annotations

import html.parser
import re
from typing import Any

import pytest
from jinja2 import UndefinedError

from listener.service.monitor import SnapshotWriter
from listener.status.api import package_file
from listener.status.charts import charts, figures
from listener.status.document import LedgerView, document
from listener.status.page import Badge, Pages, badge
from listener.telemetry.metric_rows import Numbers
from tests.status.rows import HOSTILE, detail, group, hook, series, study

NOW = 1_800_000_000 * 10**9

#: Every page with what it alone shows.
SHOWN: dict[str, dict[str, Any]] = {
    "overview": {"rows": [study()], "more": 190},
    "studies": {
        "rows": [study()],
        "state": "",
        "next": "/studies?after=1-1",
        "after": False,
        "asked": {"name": "doe", "patient": "", "accession": "", "dates": ("20260101", "20260131"), "modality": "CT"},
    },
    "study": {"study": study(), "rows": [detail()], "more": 3, "groups": [group()]},
    "series": {"found": [detail()], "preview": True, "drawn": True},
    "set_aside": {
        "groups": [group()],
        "more": True,
        "remedies": {"incomplete": "have it sent again"},
        "settling": "put back",
    },
    "hooks": {"hooks": [hook(oldest="2026-11-21T07:00:10.000000Z", error="refused")]},
    "missing": {"why": "The ledger does not know this study"},
}


def live(**more: Any) -> dict[str, Any]:
    found = {**SnapshotWriter("/nowhere", Numbers()).live, "time_ns": NOW, "state": "ready", **more}
    found["volumes"]["data"] = {"size": 100, "available": 40, "files": 9, "files_free": 9, "id": "a"}
    return found


def place(**more: Any) -> dict[str, Any]:
    row = {"reason": "io-error", "stage": "place", "error": "no", "place": "level 1", "files": 2, "seconds": 5.0}
    return row | {"SeriesInstanceUID": "1.2"} | more


def status(text: str = "x") -> dict[str, Any]:
    """A document in which everything is shown that can be."""
    held = {"files": 2, "places": 4, "shown": [place(place=text, error=text, SeriesInstanceUID=text)]}
    told = LedgerView(hooks={text: {**hook(), "error": text, "failed": 3}}, error=text)
    told_live = live(held_up=held, host=text, incoming=[text, text])
    told_live["set_aside"] = {"files": 1, "bytes": 1, "reasons": {text: {"files": 1, "bytes": 1}}}
    return document(told_live, None, told, NOW)


def rendered(name: str, told: dict[str, Any], *, phi: bool = False, **more: Any) -> str:
    drawn = {"charts": charts(told, (), 0.0), "figures": figures(told)} if name == "overview" else {}
    shown = SHOWN[name] | more
    return Pages(package_file, phi=phi).render(name, told, "/", **drawn, **shown).decode()


class Tags(html.parser.HTMLParser):
    """Names of elements and attributes with how often, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(" ".join([tag, *(name for name, _ in attrs)]))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(value: Any) -> Any:
    """The same with every text that is no time, number or word of ours replaced."""
    words, times = (
        {"state", "reason", "result", "why"},
        {"first", "last", "oldest", "newest", "time", "made", "settled"},
    )
    ours = words | times | {"next", "pruned", "acknowledged"}
    if isinstance(value, dict):
        return {key: one if key in ours else hostile(one) for key, one in value.items()}
    if isinstance(value, list):
        return [hostile(one) for one in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("phi", [False, True])
@pytest.mark.parametrize("name", SHOWN)
def test_what_a_sender_chose_becomes_no_element_and_no_attribute(name: str, *, phi: bool) -> None:
    made = Tags(rendered(name, status(HOSTILE), phi=phi, **hostile(SHOWN[name])))
    usual = Tags(rendered(name, status(), phi=phi))
    assert made.tags == usual.tags
    assert "alert(1)" in made.text
    assert "\x1b" not in made.text
    assert "\u202e" not in made.text


@pytest.mark.parametrize("name", SHOWN)
def test_a_page_needs_nothing_from_elsewhere(name: str) -> None:
    page = rendered(name, status())
    assert not re.findall(r"""(?:src|href|action)=["']?(?:https?:)?//""", page)
    assert "url(" not in page
    assert " style=" not in page  # the policy would not let it
    assert page.startswith("<!doctype html>")


@pytest.mark.parametrize("name", SHOWN)
def test_patients_are_shown_only_where_they_were_asked_for(name: str) -> None:
    values = ("Doe^Jane", "P1/x", "19700101", "Brain")
    without = rendered(name, status())
    assert not [value for value in values if value in without]
    if name in ("overview", "studies", "study"):
        assert "Doe^Jane" in rendered(name, status(), phi=True)


def test_the_badge_is_green_only_where_nothing_needs_attention() -> None:
    well = document(live(), None, LedgerView(), NOW)
    assert badge(well) == Badge("ready", "ready")
    yellow = document(live(), None, LedgerView(studies={"incomplete": 1}), NOW)
    assert badge(yellow) == Badge("attention", "needs attention")
    red = document(live(state="not-ready"), None, LedgerView(), NOW)
    assert badge(red) == Badge("not-ready", "not ready")
    assert 'class="state attention"' in rendered("overview", yellow)


def test_each_finding_has_its_remedy_and_its_heading() -> None:
    told = document(live(), None, LedgerView(studies={"incomplete": 2}), NOW)
    page = rendered("overview", told)
    assert "2 studies lack instances that were promised" in page
    assert "Runbook: <i>ListenerSeriesIncomplete</i>" in page
    linked = Pages(package_file, docs="https://docs.example/1").render(
        "overview", told, "/", charts=[], figures=[], **SHOWN["overview"]
    )
    assert b'href="https://docs.example/1/runbook.md#listenerseriesincomplete"' in linked


def test_more_is_told_with_a_number() -> None:
    page = rendered("overview", status())
    assert '<a href="/studies">and 190 more</a>' in page
    assert "and 3 more places" in page


def test_times_are_told_by_their_age_with_the_instant_as_title() -> None:
    now = document(live(), None, LedgerView(), NOW)["time"]
    row = study(last=now)
    page = rendered("studies", document(live(), None, LedgerView(), NOW + 12 * 10**9), rows=[row])
    assert re.search(rf'<time datetime="{re.escape(now)}" title="{now[:10]} {now[11:19]} UTC">12 s ago</time>', page)


def test_a_bar_where_the_number_of_instances_is_known() -> None:
    row = detail(instances=3, expected=9)
    assert "3 of 9 (33 %)" in rendered("study", status(), rows=[row])
    assert "<progress" not in rendered("study", status(), rows=[series(expected=0)])


def test_a_misspelled_name_in_a_template_is_an_error() -> None:
    sources = {"templates/x.html": "{{ nothing }}"}
    with pytest.raises(UndefinedError):
        Pages(lambda name: sources.get(name, "")).render("x", status(), "/")
