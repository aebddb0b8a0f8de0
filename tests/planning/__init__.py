"""Tests of listener.planning."""
