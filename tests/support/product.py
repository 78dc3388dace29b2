"""Files of the product: its wings, its modules, and a copy of them."""

import shutil

from conftest import ROOT

WINGS = ("cli", "listing", "migrations", "monitoring", "server", "storage", "ui")
MODULES = sorted([*ROOT.glob("*.py"), *(path for wing in WINGS for path in (ROOT / wing).glob("*.py"))])


def copy_product(folder):
    """Copy modules, wings and the launcher script into an existing ``folder``."""
    for wing in WINGS:
        shutil.copytree(ROOT / wing, folder / wing, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.py"), ROOT / "registry"):
        shutil.copy2(path, folder / path.name)
