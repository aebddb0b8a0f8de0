"""PURE. What single files wait for at the moment while others go on: locks that somebody holds."""

from __future__ import annotations

#: How often the same text is logged, and how long after the last refusal it counts as over, in seconds. A file that
#: needs a lock is tried again within LONGEST seconds.
_LOGGED_AGAIN = 60.0
_OVER = 15.0
LONGEST = 5.0


class Waits:
    """Which texts ("the lock ... is held by ...") were given lately as the reason why a file waits."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._logged: dict[str, float] = {}

    def add(self, text: str, now: float) -> bool:
        """A file waits for this; whether it is to be logged (it is new, or was logged a minute ago)."""
        self._seen[text] = now
        news = now - self._logged.get(text, -_LOGGED_AGAIN) >= _LOGGED_AGAIN
        if news:
            self._logged[text] = now
        return news

    def texts(self, now: float) -> list[str]:
        """What files wait for now."""
        self._seen = {text: when for text, when in self._seen.items() if now - when < _OVER}
        self._logged = {text: when for text, when in self._logged.items() if now - when < _LOGGED_AGAIN}
        return sorted(self._seen)
