"""Tests of listener.ledger."""
