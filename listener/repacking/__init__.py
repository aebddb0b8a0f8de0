"""One file's story in a worker: claim, read, place, describe, release."""
