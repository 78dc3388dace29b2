"""How fast the registry is: ``python -m bench``, against a bare Flask route and raw SQLite."""
