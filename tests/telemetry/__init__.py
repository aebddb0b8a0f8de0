"""Tests of listener.telemetry."""
