"""Where an instance goes and what its documents say. Pure decisions."""
