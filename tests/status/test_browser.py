"""The pages in a real Chromium: sizes, schemes, keyboard, screen readers, hostile texts, many studies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser
from tests.conftest import PROJECT
from tests.hostile_entries import HOSTILE as HOSTILE_TEXTS
from tests.instances import uid
from tests.service_process import Places, service
from tests.status.contract import checker
from tests.status.looking import bring, fill, served, status_until
from tests.waiting import until

pytestmark = pytest.mark.real

SENDER, MODALITY = "<b>x&'\"", "<I>X"


def pages_of(tab: Browser, url: str) -> list[str]:
    """One address of each kind of page: the first study and series that are linked."""
    paths = ["/", "/studies", "/set-aside", "/hooks"]
    for page in ("/studies", "/series"):
        tab.open(f"{url}{paths[-1] if page == '/series' else '/'}")
        links = tab.value(f"[...document.querySelectorAll('main a[href^=\"{page}/\"]')].map((a) => a.pathname)")
        paths += links[:1]
    return paths


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    path = PROJECT / ".venv/axe/node_modules/axe-core/axe.min.js"
    if not path.is_file():
        pytest.skip("axe-core is not installed (.ci/need axe-core)")
    return path.read_text(encoding="utf-8")


#: What axe-core finds wrong: the rule and its first element.
FOUND = """
axe.run({resultTypes: ["violations"]}).then((told) =>
  told.violations.map((one) => [one.impact, one.id, one.nodes[0].html.slice(0, 200)]))
"""


@pytest.mark.parametrize(("studies", "phi"), [(0, False), (3, False), (3, True), (200, False), (20_000, False)])
def test_every_page_at_any_size(tab: Browser, tmp_path: Path, axe: str, studies: int, *, phi: bool) -> None:
    """Narrow and wide, light and dark: nothing to scroll sideways, nothing that axe minds."""
    fill(tmp_path / "state", studies)
    with served(tmp_path / "state", phi=phi) as server:
        url = f"http://{server.address}"
        for path in pages_of(tab, url):
            for scheme, width in (("light", 400), ("dark", 400), ("light", 1200), ("dark", 1200)):
                tab.look(width, 900, scheme)
                tab.open(url + path)
                where = (path, scheme, width)
                assert tab.value("document.documentElement.scrollWidth") <= width, where
                sideways = "[...document.querySelectorAll('.wide')].some((one) => one.scrollWidth > one.clientWidth)"
                assert not tab.value(sideways), where
                if (scheme == "light") == (width == 400):
                    tab.value("document.querySelector('button').click()")  # the page stays as it is meanwhile
                    tab.value(axe + ";0")
                    assert tab.value(FOUND) == [], where
            tab.screenshot(tmp_path / f"{path.strip('/').split('/')[0] or 'overview'}-{scheme}-{width}.png")
        # No file of these series is there, so neither is an image of them.
        assert [one for one in tab.complaints() if "/preview/" not in one] == []
        tab.open(url)
        more = studies - 10
        assert (f"and {more:,} more" in tab.value("document.body.innerText")) is (more > 0)


def test_the_keyboard_alone_reaches_everything(tab: Browser, tmp_path: Path) -> None:
    """From the top of the overview to a study, to one of its series and back, and each stop is seen."""
    fill(tmp_path / "state", 3)
    with served(tmp_path / "state") as server:
        tab.look(1200, 900)
        tab.open(f"http://{server.address}/")
        tab.call("Page.bringToFront")
        until_focused(tab, "/studies/")
        press(tab, "Enter")
        until(lambda: tab.value("location.pathname").startswith("/studies/"), 10)
        until(lambda: tab.value("document.readyState") == "complete", 10)
        until_focused(tab, "/series/")
        press(tab, "Enter")
        until(lambda: tab.value("location.pathname").startswith("/series/"), 10)
        until(lambda: tab.value("document.readyState") == "complete", 10)
        until_focused(tab, "/studies/")
        assert tab.complaints() == []


def press(tab: Browser, key: str) -> None:
    code = {"Tab": 9, "Enter": 13}[key]
    text = {"text": "\r"} if key == "Enter" else {}
    tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
    tab.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)


def until_focused(tab: Browser, begin: str) -> None:
    """Go from stop to stop until a link in the page's main part leads there."""
    for _ in range(60):
        press(tab, "Tab")
        seen = tab.value("getComputedStyle(document.activeElement).outlineStyle")
        assert seen != "none", tab.value("document.activeElement.outerHTML")
        there = "document.activeElement.closest('main') ? document.activeElement.getAttribute('href') ?? '' : ''"
        if tab.value(there).startswith(begin):
            return
    raise AssertionError(f"no stop leads to {begin}")


def bring_hostile(places: Places) -> int:
    """The corpus of what people and attackers send, in whatever the page shows; how many files."""
    # neither attribute can hold more than ASCII
    texts = [
        text.encode("ascii", "replace").decode() for text in HOSTILE_TEXTS.values() if isinstance(text, str) and text
    ]
    for number, told in enumerate(texts, 100):
        bring(places, 1, number, Modality=told, sender=told[:16])
    for number, dots in enumerate((".", "..", ".1.2"), 200):
        bring(places, 1, number, SeriesInstanceUID=dots)
    return len(texts) + 3


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:.*value length")  # what it is about
def test_the_page_in_chromium(places: Places, tab: Browser, tmp_path: Path) -> None:
    """Whole without JavaScript, fresh with it; light and dark; narrow and wide; nothing hostile comes through."""
    promised = places.log / "seriesData" / f"{uid('series', 0, 0, 7)}-retrieve.json"
    promised.parent.mkdir(parents=True)
    promised.write_text('{"NumberOfSeriesRelatedInstances": "9"}')
    with service(places, "--series-quiet", "MR=0.2") as running:
        held = bring(places, 3, 7, Modality=MODALITY, sender=SENDER)
        done = bring(places, 2)
        brought = 5 + bring_hostile(places)
        running.wait_for("series-complete")
        told = status_until(running, lambda found: sum(found["files"].values()) == brought)
        checker("Status")(told)
        url = f"http://{running.address}/"

        tab.call("Emulation.setScriptExecutionDisabled", value=True)
        study = told["in_flight"][0]["StudyInstanceUID"]
        for path in ("/", "/studies", f"/studies/{study}", f"/series/{held}"):
            for width in (320, 1280):
                tab.look(width, 900)
                tab.open(url + path[1:])
                assert tab.value("document.documentElement.scrollWidth") <= width
        text = tab.value("document.body.innerText")
        assert SENDER in text
        assert MODALITY in text
        assert "3 of 9 (33 %)" in text
        tab.open(f"{url}studies/{study}")
        text = tab.value("document.body.innerText")
        shown = tab.value("[...document.querySelectorAll('.uid')].map((one) => one.title)")
        assert {held, done} <= set(shown)
        made = tab.value(
            "[...new Set([...document.querySelectorAll('td *')].map((one) => one.localName))].sort().join()"
        )
        assert made == "a,progress,span,time"

        tab.call("Emulation.setScriptExecutionDisabled", value=False)
        tab.open(url)
        names = {one["name"]["value"] for one in accessible(tab) if one.get("name", {}).get("value")}
        assert {"listener", "Studies", "Set aside", "Pause updates"} <= names
        assert any(name.startswith("Backlog: now ") for name in names), "a chart says what it shows"
        updates_by_itself(places, tab, url)
        assert tab.complaints() == []
        assert {one.partition("?")[0] for one in tab.requests()} <= {url, f"{url}studies", f"{url}studies/{study}",
                                                                     f"{url}series/{held}"}  # fmt: skip
        running.stop()
        until(lambda: tab.value("document.getElementById('state').textContent") == "no answer", 15)


def accessible(tab: Browser) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = tab.call("Accessibility.getFullAXTree")["nodes"]
    return [one for one in nodes if not one.get("ignored")]


def updates_by_itself(places: Places, tab: Browser, url: str) -> None:
    """A new study is there without a reload, where one looks and moved to; not while it is paused."""
    tab.value("window.stayed = true; document.querySelector('.wide').focus(); scrollTo(0, 50)")
    name = tab.value("document.activeElement.getAttribute('aria-label')")
    fresh = str(uid("study", 9, 9))
    bring(places, 1, 8, Modality="CT", StudyInstanceUID=fresh)
    until(lambda: tab.value(f"document.querySelector('[title=\"{fresh}\"]') !== null"), 15)
    assert tab.value("window.stayed") is True
    assert tab.value("document.activeElement.getAttribute('aria-label')") == name
    assert tab.value("scrollY") == 50
    tab.value("document.querySelector('button').click()")
    assert tab.value("document.querySelector('button').getAttribute('aria-pressed')") == "true"
    told, said = "", tab.value("document.getElementById('said').textContent")
    for _ in range(3):
        if told != said:  # It may have asked before it was paused.
            told = said
            time.sleep(2.5)  # one turn of the page's own clock: nothing may happen in it
            said = tab.value("document.getElementById('said').textContent")
    assert said == told
    tab.value("document.querySelector('button').click()")
    until(lambda: tab.value("document.getElementById('said').textContent") != said, 10)
