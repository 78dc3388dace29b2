"""How long the fault tests go on: a few rounds in ``make test``, many with TORTURE=1."""

import os


def rounds(quick, torture):
    return torture if os.environ.get("TORTURE") == "1" else quick
