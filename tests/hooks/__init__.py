"""Tests of listener.hooks."""
