"""Repack one file in a worker: claim, read, place, describe, release."""
