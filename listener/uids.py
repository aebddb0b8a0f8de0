"""PURE. The form of a DICOM UID (PS3.5 section 9.1)."""

from __future__ import annotations

import re

#: Return a match if a text has the characters and the length of a UID, 1 to 64 digits and dots; None if not.
is_uid = re.compile(r"[0-9.]{1,64}").fullmatch
