"""Single frames of instances: where they lie, and how they are read."""
