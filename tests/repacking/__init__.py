"""Tests of listener.repacking."""
