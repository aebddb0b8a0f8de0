"""Telling other programs of series that ended and of files that were set aside: from the ledger, at least once."""
