"""Tests of listener.network."""
