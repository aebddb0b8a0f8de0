"""Tests of listener.route."""
