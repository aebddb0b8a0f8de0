"""Tests of listener.quickstart."""
