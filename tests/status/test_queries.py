"""What the parameters of a request may be, and what one is told who gives another."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.status.queries import PARAMETERS, START, cursor, parse_query

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
NAMES = tuple(PARAMETERS)


@pytest.mark.parametrize(
    "query",
    [
        "state=closed", "limit=0", "limit=1001", "limit=0001000000", "limit=x", "limit=", "after=1",
        f"after={10**19}-1", "colour=red", "StudyInstanceUID=1.2.x", "since=yore", "since=", "until=99999999999w",
        "by=colour", "by=batch,day", "reason=ugly", f"sender={'x' * 301}", "&".join(["limit=1"] * 21),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"give|parameter"):
        parse_query(query, NAMES)


def test_what_is_not_for_a_route_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown parameter; there are state, limit"):
        parse_query("by=day", ("state", "limit"))
    with pytest.raises(ValueError, match="unknown parameter; there is none"):
        parse_query("by=day", ())


def test_values_and_defaults() -> None:
    found = parse_query("sender=A%20B&since=2026-11&until=2026-11-26&by=month,sender&limit=7", NAMES, NOW)
    assert (found["sender"], found["limit"], found["state"]) == ("A B", 7, "")
    assert found["since"] == int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 10**9
    assert found["until"] // 10**9 == int(datetime(2026, 11, 26, 23, 59, 59, tzinfo=UTC).timestamp())
    assert found["by"] == ("month", "sender")
    assert parse_query("", ("after",)) == {"after": START}
    assert (
        parse_query("since=7d", ("since",), NOW)["since"]
        == int(datetime(2026, 11, 19, 12, tzinfo=UTC).timestamp()) * 10**9
    )
    assert parse_query("limit=1&limit=2", ("limit",)) == {"limit": 2}


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_cursor_is_read_as_it_was_given(last_ns: int, number: int) -> None:
    assert parse_query(f"after={cursor(last_ns, number)}", ("after",)) == {"after": (last_ns, number)}


@given(st.text(max_size=100))
def test_no_query_breaks_it(query: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_query(query, NAMES, NOW).keys() == set(NAMES)
