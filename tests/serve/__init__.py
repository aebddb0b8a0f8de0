"""Tests of listener.serve."""
