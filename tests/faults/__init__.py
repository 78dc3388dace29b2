"""Promises of the service under faults: docs/reliability.md names the test of each promise."""
