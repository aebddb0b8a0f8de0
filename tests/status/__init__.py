"""Tests of listener.status."""
