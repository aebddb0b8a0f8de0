"""Tests of listener.verification."""
