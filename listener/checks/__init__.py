"""`listener check`: faults of a configuration and its system, each with a remedy."""
