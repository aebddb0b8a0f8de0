"""Tests of listener.stages."""
