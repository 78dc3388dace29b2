"""Parts that run under gunicorn.

- ``worker`` and ``connection``: threads that slow clients do not occupy
- ``duplicate_headers``: reported to the application
- ``startup_checks``: addresses and certificate, before a start or reload
- ``counters``: memory shared by the workers, for /metrics
- ``logs``: formats, and one line per request
- ``healthcheck``: ``python -m server.healthcheck``, for containers
"""
