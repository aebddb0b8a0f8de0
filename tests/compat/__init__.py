"""The real predecessors, side by side. `python -m pytest -m compat` runs these; they need PyPI once."""
