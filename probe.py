"""Whether this machine's server answers, for a container's health check: exit code 0, or a line that says why not."""

import ssl
import sys
import urllib.error
import urllib.request

from config import read_settings

SECONDS = 4
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def probe(server) -> None:
    """Ask /healthcheck, which needs no database. Raises OSError."""
    host = server.bind_host.strip("[]")
    host = ANY_ADDRESS.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    # The certificate is for the names by which others call it.
    context = ssl._create_unverified_context() if server.certfile else None
    url = f"http{'s' if context else ''}://{shown}:{server.bind_port}/healthcheck"
    # No proxy of the environment's stands between a machine and itself.
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    urllib.request.build_opener(*handlers).open(url, timeout=SECONDS).close()


if __name__ == "__main__":
    try:
        probe(read_settings().server)
    except OSError as error:
        sys.exit(f"registry: the server does not answer: {error}")
