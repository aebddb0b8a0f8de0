"""PURE. Locks held by others that single files wait for while the rest goes on."""

from __future__ import annotations

#: Interval in which the same text is logged again, and time after the last refusal when it counts as over, in seconds.
#: A file that needs a lock is tried again within LONGEST seconds.
_LOGGED_AGAIN = 60.0
_OVER = 15.0
LONGEST = 5.0


class Waits:
    """Texts ("the lock ... is held by ...") that were lately the reason why a file waits."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._logged: dict[str, float] = {}

    def add(self, text: str, now: float) -> bool:
        """Record that a file waits for this; return whether to log it (it is new, or was logged a minute ago)."""
        self._seen[text] = now
        news = now - self._logged.get(text, -_LOGGED_AGAIN) >= _LOGGED_AGAIN
        if news:
            self._logged[text] = now
        return news

    def texts(self, now: float) -> list[str]:
        """Return what files wait for at `now`, sorted."""
        self._seen = {text: when for text, when in self._seen.items() if now - when < _OVER}
        self._logged = {text: when for text, when in self._logged.items() if now - when < _LOGGED_AGAIN}
        return sorted(self._seen)
