"""Tests of listener.disk."""
