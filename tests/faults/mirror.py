"""A WSGI application that answers with what the server handed it: run by tests in our gunicorn's settings."""

import json


def application(environ, start_response):
    shown = {"peer": environ["REMOTE_ADDR"], "repeated": sorted(environ["registry.repeated_headers"])}
    shown |= {name: value for name, value in environ.items() if name.startswith("HTTP_X_")}
    content = json.dumps(shown).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
    return [content]
