"""Container health check for the local server: exit code 0, or one line with the cause."""

import ssl
import sys
import urllib.request

from config import read_settings

SECONDS = 4


def probe(server) -> None:
    """Request /healthcheck, which needs no database. Raises: OSError."""
    host = server.bind_host.strip("[]")  # connecting to 0.0.0.0 reaches this machine
    place = f"{f'[{host}]' if ':' in host else host}:{server.bind_port}"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate is for public names
    # Proxies of the environment do not apply to the local machine.
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    url = f"http{'s' if server.certfile else ''}://{place}/healthcheck"
    urllib.request.build_opener(*handlers).open(url, timeout=SECONDS).close()


if __name__ == "__main__":
    try:
        probe(read_settings().server)
    except OSError as error:
        sys.exit(f"registry: the server does not respond: {error}")
