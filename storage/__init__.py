"""Storage: the database engine, rendered documents, integrity checks and the search index.

Other modules use:

- ``engine``: ``open_database``, ``reading``, ``writing``, ``execute``, ``fetch_row``, ``bulk_load``, ``deferred_sync``,
  ``health``, ``sizes``, ``exists``, ``folder`` and the other methods of an engine
- ``fields``: the table of image fields
- ``documents``: JSON documents of a record, list partitions, checksums
- ``search_index``: ``store_words``, ``index_words``, ``rebuild_index``
- ``timestamps``: times as the API writes them; ``ttl_cache``: a bounded cache
- ``integrity`` and ``file_checks``: the checks of ``check``, ``doctor`` and a start

``base`` is the interface of an engine and ``sqlite`` the only one so far. ``schema_guard``, ``timing``, ``wal`` and
``filesystem`` belong to it. Only commands about the database file use these, ``integrity`` and ``file_checks``.
"""
