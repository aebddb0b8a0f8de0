"""Tests of listener.checks."""
