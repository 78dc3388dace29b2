"""Selection of a mirror's items by architecture, release, version and format, with messages on what is left out."""

import re
from collections import Counter

from cli.operating_systems import normalize_architecture
from cli.simplestreams import get_architecture, get_releases

MOST_NAMED = 12


class Selection:
    """Choice of the items that a sync registers."""

    def __init__(self, archs, releases, has_all_versions, disk_formats):
        self.archs = {normalize_architecture(arch) or arch for arch in archs}
        self.releases = {release.lower(): release for release in releases}
        self.has_all_versions = has_all_versions
        self.disk_formats = disk_formats

    def is_wanted(self, texts):
        """Return whether attributes match the architectures and releases."""
        is_arch = not self.archs or get_architecture(texts) in self.archs
        return is_arch and (not self.releases or not get_releases(texts).isdisjoint(self.releases))

    def select(self, items, others):
        """Return (items to register, notes on what is left out).

        ``others`` is {type: number} of the mirror's items that are no disk images.
        """
        wanted = [item for item in items if self.is_wanted(item.texts)]
        newest = wanted if self.has_all_versions else select_newest(wanted)
        unlisted = Counter(item.disk_format for item in newest if item.disk_format not in self.disk_formats)
        notes = list(self.describe_unmatched(items))
        if others:
            notes.append(f"{count_items(others.total())} no disk images: {join_names(others)}")
        if unlisted:
            formats = join_names(unlisted)
            notes.append(f"{count_items(unlisted.total())} of formats that [api] disk_formats does not list: {formats}")
        if older := len(wanted) - len(newest):
            notes.append(f"{count_items(older)} of older versions; --all-versions registers them too")
        return [item for item in newest if item.disk_format in self.disk_formats], notes

    def describe_unmatched(self, items):
        """Yield a note for each option that matches no item, with the values that would."""
        if not items:
            return
        there = Counter(get_architecture(item.texts) or "none" for item in items)
        for arch in sorted(self.archs - {*there}):
            yield f"no item matches --arch {arch}; the mirror has {join_names(there)}"
        items = [item for item in items if not self.archs or get_architecture(item.texts) in self.archs]
        known = [get_releases(item.texts) for item in items]
        for release, given in self.releases.items():
            if items and not any(release in names for names in known):
                there = join_names(Counter(map(get_release, items)))
                yield f"no item matches --release {given}; the mirror has {there}"


def get_release(item):
    """Return the name of an item's release, for a message."""
    return item.texts.get("release") or item.texts.get("version") or item.product


def select_newest(items):
    """Return the items of each product's newest version."""
    versions = {}
    for item in items:
        product = item.stream, item.product
        versions[product] = max(versions.get(product, ""), item.version, key=version_order)
    return [item for item in items if item.version == versions[item.stream, item.product]]


def version_order(version):
    """Return a sort key of a version's name, whose numbers are compared as numbers."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"(\d{1,18})", version))]


def count_items(count):
    """Return the beginning of a note on so many items."""
    return f"{count} item is" if count == 1 else f"{count} items are"


def join_names(counts):
    """Return the names that are counted, the most frequent ones if there are many."""
    names = [name for name, _ in counts.most_common(MOST_NAMED)]
    more = len(counts) - len(names)
    return ", ".join(sorted(names, key=version_order)) + (f" and {more} more" if more else "")
