"""PURE. Transfer syntaxes that are told apart (PS3.5 annex A), by their UIDs."""

from __future__ import annotations

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

#: Transfer syntaxes whose data set is deflated as a whole: that, and JPIP's (PS3.5 sections A.5, A.7 and A.11).
ALL_DEFLATED = frozenset({DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})

#: Transfer syntaxes with native pixels, whose length follows from Rows, Columns and so on. "": unknown.
NATIVE = frozenset({"", IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
