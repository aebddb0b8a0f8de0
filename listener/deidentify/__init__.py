"""De-identification (PS3.15 Annex E): what becomes of each element, and the rewriting of files. A stage of its own."""
