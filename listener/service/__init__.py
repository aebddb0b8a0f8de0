"""The service `run`: finds files, hands them to workers, and records their outcomes."""
