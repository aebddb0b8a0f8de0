"""The stage export: complete series to object storage or a directory, each once, listed and verified."""
