"""Writers whose every change can be told from what is stored, and what is stored, checked for halves."""

import http.client
import json
import sqlite3
import threading
import uuid
from contextlib import closing
from itertools import pairwise
from typing import NamedTuple

from conftest import IMAGE

import models

PROPERTIES = ("first", "second", "third", "fourth")
WRITERS = 16


class State(NamedTuple):
    """All that tests know of an image; whatever a version changes bears the version's number."""

    version: int
    is_deleted: bool
    members: dict  # id: can_share


class Ledger:
    """Which states each image may be in: {id: (the present one,)}, or while a change is in flight (before, after)."""

    def __init__(self):
        self.possible = {}

    def sent(self, image_id, state):
        self.possible[image_id] = (self.possible.get(image_id, (None,))[-1], state)

    def acknowledged(self, image_id, state):
        self.possible[image_id] = (state,)

    def settle(self, stored):
        """What was in flight has been done, or not: ``stored`` are the states found."""
        self.possible = {image_id: (stored[image_id],) for image_id in self.possible if image_id in stored}


class Writers:
    """Sixteen threads, each with images of its own, that change them until the server is gone or ``stop`` is called."""

    def __init__(self, server, ledger, random):
        self.violations = []
        self.acknowledged = 0
        self.stopped = threading.Event()
        self.ledger = ledger
        seeds = [random.getrandbits(64) for _ in range(WRITERS)]
        self.threads = [threading.Thread(target=self.write, args=(server, type(random)(seed))) for seed in seeds]
        for thread in self.threads:
            thread.start()

    def write(self, server, random):
        images = {}
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
            while not self.stopped.is_set():
                image_id, state, request, expected = next_change(images, random)
                self.ledger.sent(image_id, state)
                try:
                    connection.request(*request)
                    response = connection.getresponse()
                    answer = response.read()
                except (OSError, http.client.HTTPException):
                    return  # what is in flight may have been done, or not
                if response.status != expected:
                    self.violations.append(f"{request[:2]} was answered {response.status}: {answer[:200]}")
                    return
                self.ledger.acknowledged(image_id, state)
                self.acknowledged += 1
                images[image_id] = state

    def join(self):
        for thread in self.threads:
            thread.join(timeout=120)
            assert not thread.is_alive()

    def stop(self):
        self.stopped.set()
        self.join()


def next_change(images, random):
    """(image's id, its state after, the request, the status that answers it)"""
    living = [image_id for image_id, state in images.items() if not state.is_deleted]
    deleted = [image_id for image_id, state in images.items() if state.is_deleted]
    kind = random.choice(["create", "update", "update", "replace", "put", "remove", "delete", "undelete"])
    if kind == "undelete" and deleted:
        image_id = random.choice(deleted)
        state = images[image_id]._replace(is_deleted=False)
        return image_id, state, request_of("POST", f"/images/{image_id}/undelete"), 200
    image_id = random.choice(living) if living else None
    if image_id is None or kind == "create":
        image_id = str(uuid.UUID(int=random.getrandbits(128)))
        return image_id, State(0, False, {}), request_of("POST", "/images", fields(0) | {"id": image_id}), 200
    version, _, members = images[image_id]
    path = f"/images/{image_id}"
    if kind == "update":
        state = State(version + 1, False, members)
        return image_id, state, request_of("PUT", path, fields(version + 1)), 200
    if kind == "delete":
        return image_id, State(version, True, members), request_of("DELETE", path), 200
    members, request = change_members(kind, path, members, random)
    return image_id, State(version, False, members), request, 204


def change_members(kind, path, members, random):
    """(the members after, the request)"""
    if kind in ("remove", "undelete") and members:
        member = random.choice(sorted(members))
        kept = {name: can_share for name, can_share in members.items() if name != member}
        return kept, request_of("DELETE", f"{path}/members/{member}")
    can_share = random.random() < 0.5
    if kind == "put":
        member = f"tenant-{random.randrange(5)}"
        body = {"member": {"can_share": can_share}}
        return members | {member: can_share}, request_of("PUT", f"{path}/members/{member}", body)
    members = {f"tenant-{number}": can_share for number in random.sample(range(9), 4)}
    memberships = [{"member_id": member, "can_share": can_share} for member in members]
    return members, request_of("PUT", f"{path}/members", {"memberships": memberships})


def request_of(method, path, body=None):
    if body is None:
        return (method, path)
    body = body if {"member", "memberships"} & body.keys() else {"image": body}
    return method, path, json.dumps(body), {"Content-Type": "application/json"}


def fields(version):
    return {
        **IMAGE,
        "name": str(version),
        "size": version,
        "properties": dict.fromkeys(PROPERTIES, str(version)),
        "locations": [f"http://store/{version}/{number}" for number in range(2)],
    }


def read_states(path, violations):
    """{id: State} of all that is stored; what is half there, or does not fit together, is added to ``violations``."""
    with closing(sqlite3.connect(path)) as connection:
        sound = connection.execute("PRAGMA integrity_check").fetchall()
        orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        if sound != [("ok",)] or orphans:
            violations.append(f"integrity_check: {sound}, foreign_key_check: {orphans}")
            return {}
        columns = ", ".join(models.COLUMNS)
        rows = [
            dict(zip(models.COLUMNS, row, strict=True)) for row in connection.execute(f"SELECT {columns} FROM image")
        ]
        parts = {row["pk"]: ({}, [], {}) for row in rows}
        for pk, name, value in connection.execute("SELECT image_id, name, value FROM property ORDER BY name"):
            parts[pk][0][name] = value
        locations = "SELECT image_id, url, metadata, status FROM location ORDER BY position"
        for pk, *entry in connection.execute(locations):
            parts[pk][1].append(tuple(entry))
        for pk, member, can_share in connection.execute("SELECT image_id, member, can_share FROM member"):
            parts[pk][2][member] = bool(can_share)
        states = {row["id"]: state_of(row, *parts[row["pk"]], violations) for row in rows}
        for row in rows:
            state = states[row["id"]]
            require_words(connection, row["pk"], state.version, violations)
            require_history(connection, row["pk"], state, violations)
    return states


def state_of(row, properties, locations, members, violations):
    version = row["size"]
    expected = fields(version)
    is_whole = (
        (row["name"], properties) == (expected["name"], expected["properties"])
        and [url for url, *_ in locations] == expected["locations"]
        and bool(row["deleted"]) == (row["deleted_at"] is not None)
    )
    if not is_whole:
        violations.append(f"half of an image is stored: {row}, {properties}, {locations}")
    row = row | {name: bool(row[name]) for name in ("protected", "deleted")}
    documents = models.documents_of(row, properties, locations)
    if {name: row[name] for name in documents} != documents:
        violations.append(f"the documents are not those of the rows: {row}")
    return State(version, row["deleted"], members)


def require_words(connection, pk, version, violations):
    """A search for the image's only word finds it: in the index, or among the words that are not in it yet."""
    words = connection.execute("SELECT text FROM words WHERE image_id = ?", (pk,)).fetchall()
    found = connection.execute(
        "SELECT count(*) FROM search WHERE rowid = ? AND search MATCH ?", (pk, f'"{version}"')
    ).fetchone()
    is_indexed = connection.execute("SELECT ? <= up_to FROM indexed", (pk,)).fetchone()
    # The words of the files follow, each with a mark.
    named = [text.partition(" §")[0] for (text,) in words]
    if named != [f" {version}"] or found != is_indexed:
        violations.append(
            f"image {pk} of version {version} has the words {words}, found: {found}, should: {is_indexed}"
        )


def require_history(connection, pk, state, violations):
    """Each of the changes has its entry, the newest of each kind says what is stored."""
    query = "SELECT number, action, changes FROM change WHERE image_id = ? ORDER BY number"
    entries = [(*entry, json.loads(changes)) for *entry, changes in connection.execute(query, (pk,))]
    numbers = [number for number, *_ in entries]
    updates = [changes for _, action, changes in entries if action == "updated"]
    names = [change["to"] for change in updates[-1] if change["field"] == "name"] if updates else ["0"]
    is_from_the_first = numbers[:1] == [1]  # else older ones were forgotten
    is_whole = (
        bool(entries)
        and numbers == list(range(numbers[0], numbers[0] + len(entries)))
        and (not is_from_the_first or (entries[0][1] == "created" and len(updates) == state.version))
        and ((not updates and not is_from_the_first) or names == [str(state.version)])
        and are_deletions_told(entries, state.is_deleted)
        and are_members_told(entries, state.members, is_from_the_first)
    )
    if not is_whole:
        violations.append(f"image {pk}, {state}, has the history {entries}")


def are_deletions_told(entries, is_deleted):
    """They take turns, and nothing else happens to what is deleted."""
    actions = [action for _, action, _ in entries]
    followed = {after for action, after in pairwise(actions) if action == "deleted"}
    before = {action for action, after in pairwise(actions) if after == "undeleted"}
    return followed <= {"undeleted"} and before <= {"deleted"} and (actions[-1] == "deleted") == is_deleted


def are_members_told(entries, members, is_from_the_first):
    """What was said last of each member is what is stored; no member is there of whom nothing was said."""
    told = {}
    for _, action, changes in entries:
        told |= {change["name"]: change.get("to") for change in changes if action in ("shared", "unshared")}
    kept = {member: can_share for member, can_share in members.items() if is_from_the_first or member in told}
    return kept == {member: can_share for member, can_share in told.items() if can_share is not None}


def compare(possible, stored, violations):
    """Add to ``violations`` what was acknowledged and is not there, and what is there and was never sent."""
    for image_id, states in possible.items():
        if stored.get(image_id) not in states:
            violations.append(f"image {image_id} should be one of {states}, and is {stored.get(image_id)}")
    violations += [f"image {image_id} was never sent" for image_id in stored.keys() - possible.keys()]
