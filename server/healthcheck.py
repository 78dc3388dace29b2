"""Whether this machine's server answers, for a container's health check: exit code 0, or a line that says why not."""

import ssl
import sys
import urllib.request

from config import read_settings

SECONDS = 4


def probe(server) -> None:
    """Ask /healthcheck, which needs no database. Raises OSError."""
    host = server.bind_host.strip("[]")  # to all addresses (0.0.0.0) one connects too: it is this machine
    place = f"{f'[{host}]' if ':' in host else host}:{server.bind_port}"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is for the names by which others call it
    # No proxy of the environment's stands between a machine and itself.
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    url = f"http{'s' if server.certfile else ''}://{place}/healthcheck"
    urllib.request.build_opener(*handlers).open(url, timeout=SECONDS).close()


if __name__ == "__main__":
    try:
        probe(read_settings().server)
    except OSError as error:
        sys.exit(f"registry: the server does not answer: {error}")
