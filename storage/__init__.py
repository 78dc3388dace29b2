"""The database engine: connections, transactions, rendered documents, integrity checks and the search index."""
