"""Tests of listener.commands."""
