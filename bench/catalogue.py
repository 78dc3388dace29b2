"""Reproducible catalogue of images, drawn from a seed."""
# ruff: noqa: S311

import json
import random
import uuid
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

SEED = 4
OLDEST, YEARS = datetime(2016, 1, 1), timedelta(days=3650)
# Ownership falls along the 199 tenants; tenant-few owns 8 images at any size, guest is a member of 5.
TENANTS = [f"tenant-{number:03}" for number in range(199)]
MANY, FEW, GUEST = TENANTS[0], "tenant-few", "guest"
OWNED_BY_FEW, SHARED_WITH_GUEST, RARE_IMAGES = 8, 5, 50
POPULAR_NAME = "debian-stable"
FEW_NAMES = 12
STATUSES = {"active": 86, "queued": 8, "saving": 3, "killed": 3}
FORMATS = {("qcow2", "bare"): 600, ("raw", "bare"): 200, ("iso", "bare"): 80, ("vmdk", "ovf"): 50}
FORMATS |= {("vhd", "bare"): 30, ("vdi", "bare"): 20, ("ami", "ami"): 10, ("aki", "aki"): 5, ("ari", "ari"): 5}
COMMON_SIZES = [(2 << n) * 1024**2 for n in range(8)]
DISTROS = ["ubuntu", "fedora", "alpine", "centos", "opensuse", "cirros", "windows", "freebsd"]
RARE, COMMON, OTHER = ("hw_tpm", "2.0"), ("os_distro", "debian"), ("architecture", "aarch64")
NEARLY_ALL = ("architecture", "x86_64")


class Entry(NamedTuple):
    """Fields of an image that requests are made of; the whole record stays in the file."""

    id: str
    name: str | None
    status: str
    disk_format: str
    container_format: str
    size: int | None
    created_at: str
    updated_at: str
    owner: str
    is_public: bool
    deleted: bool
    properties: dict[str, str]
    members: tuple[str, ...]
    offset: int


class Catalogue:
    """Images of an NDJSON file from ``write``."""

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def entries(self) -> list[Entry]:
        entries, offset = [], 0
        known = {}  # one copy of each text, since a million images share few
        with self.path.open("rb") as file:
            for line in file:
                image = json.loads(line)
                image["members"] = tuple(member["member_id"] for member in image["members"])
                image["properties"] = {name: known.setdefault(text, text) for name, text in image["properties"].items()}
                values = [image[name] for name in Entry._fields[:-1]]
                entries.append(Entry(*(known.setdefault(v, v) if isinstance(v, str) else v for v in values), offset))
                offset += len(line)
        return entries

    def record(self, entry: Entry) -> dict[str, Any]:
        with self.path.open("rb") as file:
            file.seek(entry.offset)
            return json.loads(file.readline())


def write(path: Path, count: int, *, at_once: bool = False) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in imported(count) if at_once else records(count):
            file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")


def records(count: int):
    """Yield full records, oldest first, with ``visibility`` and ``members``."""
    chance = random.Random(f"{SEED} {count}")
    special = {"few": spread(count, OWNED_BY_FEW, 1), "guest": spread(count, SHARED_WITH_GUEST, 2)}
    special["rare"] = spread(count, min(RARE_IMAGES, count // 20), 0)
    for number in range(count):
        marks = {mark for mark, numbers in special.items() if number in numbers}
        yield record(chance, number, count, marks)


def imported(count: int):
    """Yield records of one moment with few names, as a bulk import makes them.

    A third of the images have os_distro=debian, nearly all architecture=x86_64; no image has both aarch64 and debian.
    """
    for number, drawn in enumerate(records(count)):
        image = drawn | dict.fromkeys(("created_at", "updated_at"), OLDEST.isoformat(timespec="microseconds"))
        image |= {"deleted_at": image["updated_at"] if image["deleted"] else None}
        image |= {"name": f"imported {number % FEW_NAMES}", "size": COMMON_SIZES[number // 3 % 4]}
        is_debian = image["properties"]["os_distro"] == COMMON[1]
        image["properties"]["architecture"] = NEARLY_ALL[1] if is_debian or number % 20 else OTHER[1]
        yield image


def spread(count: int, wanted: int, shift: int) -> set[int]:
    """Return ``wanted`` numbers below ``count``, evenly distributed."""
    return {(2 * turn + 1) * count // (2 * wanted) + shift for turn in range(wanted)}


def record(chance: random.Random, number: int, count: int, marks: set[str]) -> dict[str, Any]:
    image_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    status = "active" if marks else draw(chance, STATUSES)
    disk_format, container_format = draw(chance, FORMATS)
    is_public = (number % 10 != 3 or "rare" in marks) and not marks & {"few", "guest"}
    url = f"file:///var/lib/images/{image_id}" if status == "active" else None
    return {
        "id": image_id,
        "name": draw_name(chance, number, count),
        "status": status,
        "disk_format": disk_format,
        "container_format": container_format,
        "size": draw_size(chance),
        "virtual_size": None,
        "checksum": f"{chance.getrandbits(128):032x}" if url else None,
        "min_disk": chance.choice((0, 0, 0, 10, 20)),
        "min_ram": chance.choice((0, 0, 0, 512, 2048)),
        "owner": draw_owner(chance, marks),
        "is_public": is_public,
        "protected": chance.random() < 0.01,
        "location": url,
        **draw_times(chance, number, count, is_deleted=not marks and chance.random() < 0.03),
        "location_data": [{"url": url, "metadata": {}, "status": "active"}] if url else [],
        "properties": draw_properties(chance, number, marks),
        "visibility": "public" if is_public else "shared",
        "members": [] if is_public else draw_members(chance, marks),
    }


WEIGHTS = {"tenants": list(accumulate(1 / (number + 1) for number in range(len(TENANTS))))}


def draw(chance, weights):
    return chance.choices(list(weights), weights.values())[0]


def draw_owner(chance, marks):
    return FEW if "few" in marks else chance.choices(TENANTS, cum_weights=WEIGHTS["tenants"])[0]


def draw_name(chance, number, count):
    """Return the popular name (1 %), none (5 %), or a name that few images share."""
    if number % 100 == 50:
        return POPULAR_NAME
    return None if chance.random() < 0.05 else f"image {chance.randrange(count // 3 + 1)}"


def draw_size(chance):
    kind = chance.random()
    if kind < 0.1:
        return None
    return chance.choice(COMMON_SIZES) if kind < 0.5 else chance.randrange(10**6, 10**11)


def draw_times(chance, number, count, is_deleted):
    """Return times at an even pace: four of 20 are ties, a fifth is changed later."""
    tied = number - number % 20 if number % 20 < 4 else number
    created = OLDEST + YEARS * (tied / count)
    changed = created + (OLDEST + YEARS - created) * (chance.random() if is_deleted or chance.random() < 0.2 else 0)
    updated_at = changed.isoformat(timespec="microseconds")
    times = {"created_at": created.isoformat(timespec="microseconds"), "updated_at": updated_at}
    return times | {"deleted": is_deleted, "deleted_at": updated_at if is_deleted else None}


def draw_properties(chance, number, marks):
    """Return four properties with values of a third, a fifth, and 50 of the images."""
    return {
        "architecture": OTHER[1] if chance.random() < 0.2 else NEARLY_ALL[1],
        "build": str(number),
        "hw_tpm": RARE[1] if "rare" in marks else chance.choice(("1.2", "none")),
        "os_distro": COMMON[1] if number % 3 == 0 else chance.choice(DISTROS),
    }


def draw_members(chance, marks):
    names = {GUEST} if "guest" in marks else set()
    if chance.random() < 0.05:
        names |= set(chance.sample(TENANTS, 2))
    return [{"member_id": name, "can_share": chance.random() < 0.5} for name in sorted(names)]
