"""Tests that break things: a few rounds in make test, many where TORTURE is set."""
