"""Benchmark of the registry (``python -m bench``) against a bare Flask route and raw SQLite."""
