"""Parts that run under gunicorn: worker, start-up checks, shared counters, logs and the health check of a container."""
