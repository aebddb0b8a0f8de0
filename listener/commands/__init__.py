"""The commands that run to an end: `once`, `repack`, `plan`, `retry`, `bench`."""
