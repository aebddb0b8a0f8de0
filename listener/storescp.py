"""PURE. How DCMTK's storescp is to be started in front of the listener; docs/deployment.md gives the reasons."""

from __future__ import annotations

RECOMMENDED = ("--fork", "+uf", "+xa", "-ts", "60", "-pm")


def recommended_command(incoming: str) -> str:
    """Return the command line for an incoming directory; PORT is left to the user."""
    return f"TCP_NODELAY=1 storescp {' '.join(RECOMMENDED)} -od {incoming} PORT"
