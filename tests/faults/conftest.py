"""How long fault tests run."""

import os


def rounds(quick, torture):
    """How many rounds a fault test runs: few in ``make test``, many where TORTURE=1."""
    return torture if os.environ.get("TORTURE") == "1" else quick
