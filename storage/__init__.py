"""Storage: the database engine, rendered documents, integrity checks and the search index."""
