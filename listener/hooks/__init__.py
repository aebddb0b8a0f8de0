"""Hooks: other programs are notified of series that ended and files that were set aside, at least once."""
