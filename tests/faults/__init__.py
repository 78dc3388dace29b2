"""What the service promises when things break: docs/reliability.md names the test of each promise."""
