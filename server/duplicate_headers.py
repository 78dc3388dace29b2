"""Duplicate request headers, reported to the application as ``registry.repeated_headers``.

WSGI joins the values of headers with one name, so that an application cannot see that a client added a value to an
identity header of the proxy. gunicorn's documented hook ``pre_request`` sees each of them, in the request's thread.
"""

import threading

current = threading.local()


def remember(worker, request):
    """Keep the names of the duplicate headers of a request.

    Gunicorn's ``pre_request`` hook.
    """
    names = [name for name, _ in request.headers]
    current.duplicates = frozenset()
    if len(set(names)) < len(names):
        current.duplicates = frozenset(name for name in names if names.count(name) > 1)


def reporting(application):
    """Return a WSGI application that reports the duplicate headers of each request."""

    def report_duplicates(environ, start_response):
        environ["registry.repeated_headers"] = current.duplicates
        return application(environ, start_response)

    return report_duplicates
