"""Promise 3: each image changes as if its requests came one at a time, and a walk over pages misses nothing."""

import itertools
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from conftest import IMAGE

from faults.conftest import rounds
from faults.linearizability import Impossible, Operation, is_linearizable

CLIENTS = 16
FIELDS = ("name", "status", "properties", "deleted")
STATUSES = ("queued", "saving", "active")
NOTHING = (None, None, None)


def text_of(record):
    return json.dumps({name: record[name] for name in FIELDS}, sort_keys=True)


def step(state, asked, answer):
    """One image, by the contract: its state is (text of the record, ETag, updated_at), or None before it is created."""
    kind, change, tag, from_state = asked
    status, text, etag, updated_at = answer
    if status != expected_status(state, kind, tag, from_state):
        raise Impossible
    if status != 200:
        return state
    after = text_after(state, kind, json.loads(change))
    if text != after:
        raise Impossible
    if kind == "read" or (kind == "delete" and after == state[0]):
        if (etag, updated_at) != state[1:]:
            raise Impossible
    elif state is not None and (etag == state[1] or updated_at <= state[2]):
        raise Impossible
    return text, etag, updated_at


def expected_status(state, kind, tag, from_state):
    if kind == "create" or state is None:
        return (409 if state else 200) if kind == "create" else 404
    if from_state not in (None, json.loads(state[0])["status"]):
        return 409
    return 200 if tag in (None, state[1]) else 412


def text_after(state, kind, change):
    before = {"deleted": False, "properties": {}} if state is None else json.loads(state[0])
    properties = before["properties"] | change.get("properties", {})
    return text_of({**before, **change, "properties": properties, "deleted": before["deleted"] or kind == "delete"})


def is_harmless(asked, answer):
    return asked[0] == "read" or answer[0] != 200


class Caller:
    """One of the clients: asks at random, and keeps the history of it, {image_id: [Operation]}."""

    def __init__(self, number, client, image_ids, random):
        self.number, self.client, self.image_ids = number, client, image_ids
        self.random = type(random)(random.getrandbits(64))
        self.history = {image_id: [] for image_id in image_ids}
        self.tags = {}

    def ask_often(self, times):
        for count in range(times):
            image_id = self.random.choice(self.image_ids)
            kind = self.random.choices(["create", "read", "update", "delete"], [6, 40, 52, 2])[0]
            self.ask(image_id, kind, f"{self.number}-{count}")
        self.client.close()

    def ask(self, image_id, kind, text):
        status = self.random.choice(STATUSES)
        change = {"name": text, "status": status, "properties": {f"by {self.number}": text}}
        change = change if kind in ("create", "update") else {}
        has_tag = kind in ("update", "delete") and self.random.random() < 0.6
        tag = self.tags.get(image_id) if has_tag else None
        from_state = self.random.choice(STATUSES) if kind == "update" and self.random.random() < 0.3 else None
        begun = time.monotonic()
        answer = self.send(image_id, kind, change, tag, from_state)
        asked = (kind, json.dumps(change), tag, from_state)
        self.history[image_id].append(Operation(asked, answer, begun, time.monotonic()))
        self.tags[image_id] = answer[2] or self.tags.get(image_id)

    def send(self, image_id, kind, change, tag, from_state):
        method = {"create": "POST", "read": "GET", "update": "PUT", "delete": "DELETE"}[kind]
        path = "/images" if kind == "create" else f"/images/{image_id}"
        body = {"image": {**IMAGE, **change, "id": image_id}} if kind == "create" else None
        if kind == "update":
            body = {"image": change} | ({"from_state": from_state} if from_state else {})
        status, headers, answer = self.client.request(method, path, body, {"If-Match": tag} if tag else {})
        if status != 200:
            return (status, *NOTHING)
        return status, text_of(answer["image"]), headers["ETag"], answer["image"]["updated_at"]


def record_histories(server, random, images, times):
    """{image_id: [Operation]} of 16 clients over both workers at once."""
    image_ids = [str(uuid.UUID(int=random.getrandbits(128))) for _ in range(images)]
    clients = server.clients_of_both_workers(CLIENTS)
    callers = [Caller(number, client, image_ids, random) for number, client in enumerate(clients)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda caller: caller.ask_often(times), callers))
    return {image_id: [item for caller in callers for item in caller.history[image_id]] for image_id in image_ids}


def look_for_the_impossible(server, tally, *, images, times):
    for image_id, history in record_histories(server, tally.random, images, times).items():
        if not is_linearizable(history, step, is_harmless):
            tally.violations.append(f"image {image_id}: no order explains {sorted(history, key=lambda one: one.begun)}")
    tally.rounds += 1


def test_every_image_s_history_is_linearizable(start_broken_server, tally):
    tally.promise = "3 isolated: linearizable, 16 clients over both workers"
    server = start_broken_server()

    for number in range(rounds(2, 100)):
        look_for_the_impossible(server, tally, images=1 + number % 4, times=rounds(25, 100))

    assert tally.violations == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("without", ["without_if_match", "without_transactions"])
def test_the_checker_finds_a_missing_defence(start_broken_server, tally, without):
    tally.promise = f"3 isolated: linearizable, {without.replace('_', ' ')} (must find some)"
    server = start_broken_server(without=without)

    while not tally.violations and tally.rounds < 20:
        look_for_the_impossible(server, tally, images=2, times=25)

    assert tally.violations


def count_up(client, path, times):
    for _ in range(times):
        status = 412
        while status == 412:
            _, headers, body = client.request("GET", path)
            count = int(body["image"]["properties"]["count"])
            change = {"image": {"properties": {"count": str(count + 1)}}}
            status, _, answer = client.request("PUT", path, change, {"If-Match": headers["ETag"]})
        assert status == 200, answer
    client.close()


def test_no_update_with_if_match_is_lost(start_broken_server, tally):
    tally.promise = "3 isolated: no lost update with If-Match"
    server, times = start_broken_server(), rounds(4, 10)

    for _ in range(rounds(1, 20)):
        image = {"image": {**IMAGE, "properties": {"count": "0"}}}
        path = f"/images/{server.request('POST', '/images', image)[2]['image']['id']}"
        clients = server.clients_of_both_workers(CLIENTS)
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda client, path=path: count_up(client, path, times), clients))
        counted = int(server.request("GET", path)[2]["image"]["properties"]["count"])
        if counted != CLIENTS * times:
            tally.violations.append(f"{CLIENTS * times} updates were acknowledged, {counted} are there")
        tally.rounds += 1

    assert tally.violations == []


ORDERS = list(itertools.product(("id", "name", "status", "size", "created_at", "updated_at"), ("asc", "desc")))


@pytest.fixture
def walked_server(start_broken_server, tally):
    """(the server, the ids of its images that stay as they are): with nulls and ties in every order."""
    server = start_broken_server()
    return server, [
        create(server, name=tally.random.choice([None, "a", "m", "z"]), size=tally.random.choice([None, 0, 5, 10**12]))
        for _ in range(60)
    ]


def create(client, **fields):
    status, _, answer = client.request("POST", "/images", {"image": {**IMAGE, **fields}})
    assert status == 200, answer
    return answer["image"]["id"]


def disturb(client, random, is_over):
    """Others come, go and change: wherever a page ends, the image there may be gone before the next is asked for."""
    images = []
    while not is_over.is_set():
        fields = {"name": random.choice("abmyz"), "size": random.randrange(12), "status": random.choice(STATUSES)}
        if len(images) < 8:
            images.append(create(client, **fields))
        elif random.random() < 0.8:
            assert client.request("PUT", f"/images/{random.choice(images)}", {"image": fields})[0] == 200
        else:
            gone = images.pop(random.randrange(len(images)))
            assert client.request("DELETE", f"/images/{gone}")[0] == 200
    client.close()


def walk(client, order, limit, is_bare):
    """The ids of all pages, by the links; a bare marker is what a link would be without the position."""
    path = "/images?is_public=none&sort_key={}&sort_dir={}&limit={}".format(*order, limit)
    following, ids = path, []
    while following:
        status, headers, body = client.request("GET", following)
        assert status == 200, body
        page = [image["id"] for image in body["images"]]
        ids += page
        link = headers.get("Link", "")
        following = link[1 : link.index(">")] if link else None
        if is_bare and following:
            following = f"{path}&marker={page[-1]}"
    return ids


def walk_while_others_write(walked_server, tally, walks, is_bare=False):
    server, stable = walked_server
    clients, is_over = server.clients_of_both_workers(8), Event()
    with ThreadPoolExecutor(8) as pool:
        disturbers = [
            pool.submit(disturb, client, type(tally.random)(number), is_over) for number, client in enumerate(clients)
        ]
        try:
            for _ in range(walks):
                # Of the bare marker little is needed: by name, images often change places where a page ends.
                order, most = (("name", "asc"), 3) if is_bare else (tally.random.choice(ORDERS), 20)
                limit = tally.random.randrange(1, most)
                shown = walk(server, order, limit, is_bare)
                wrong = {image_id: shown.count(image_id) for image_id in stable if shown.count(image_id) != 1}
                if wrong:
                    tally.violations.append(f"sorted by {order}, {limit} a page, times shown: {wrong}")
                tally.rounds += 1
        finally:
            is_over.set()
    for disturber in disturbers:
        disturber.result()


@pytest.mark.exhaustive
def test_a_walk_shows_each_stable_image_once_while_others_write(walked_server, tally):
    tally.promise = "3 isolated: pages while others write"

    walk_while_others_write(walked_server, tally, rounds(12, 500))

    assert tally.violations == []


@pytest.mark.exhaustive
def test_a_walk_without_the_link_s_position_would_lose_images(walked_server, tally):
    tally.promise = "3 isolated: pages while others write, bare markers (must find some)"

    for _ in range(10):
        if not tally.violations:
            walk_while_others_write(walked_server, tally, rounds(6, 100), is_bare=True)

    assert tally.violations
