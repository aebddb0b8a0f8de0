"""Tests of listener.service."""
