"""How many rounds a fault test runs."""

import os


def rounds(quick, torture):
    """Few in ``make test``, many where TORTURE is set."""
    return torture if os.environ.get("TORTURE") else quick
