"""The checker itself: histories that it must refuse, and those that it must not."""

import itertools
import random

import pytest

from faults.linearizability import Impossible, Operation, is_linearizable


def step(state, asked, answer):
    """A register: write(value), read(), and swap(old, new), which is answered whether it did."""
    kind, *values = asked
    if kind == "write":
        return values[0]
    if kind == "read":
        if answer not in (state, None):
            raise Impossible
        return state
    old, new = values
    if answer is not None and answer != (state == old):
        raise Impossible
    return new if state == old else state


def is_harmless(asked, answer):
    return asked[0] == "read" or (asked[0] == "swap" and not answer)


def operation(asked, answer, begun, ended=float("inf")):
    return Operation(tuple(asked.split()), answer, begun, ended)


SEQUENTIAL = [operation("write a", "ok", 0, 1), operation("read", "a", 2, 3), operation("swap a b", True, 4, 5)]
POSSIBLE = {
    "nothing": [],
    "one after the other": [*SEQUENTIAL, operation("read", "b", 6, 7)],
    "a read beside a write sees the old": [*SEQUENTIAL, operation("write c", "ok", 6, 9), operation("read", "b", 7, 8)],
    "or the new": [*SEQUENTIAL, operation("write c", "ok", 6, 9), operation("read", "c", 7, 8)],
    "of two swaps one": [*SEQUENTIAL, operation("swap b c", False, 6, 9), operation("swap b d", True, 7, 8)],
    "two writes in either order": [
        *(operation("write a", "ok", 0, 9), operation("write b", "ok", 1, 8)),
        *(operation("read", "b", 2, 3), operation("read", "a", 4, 5)),
    ],
    "unanswered, done": [operation("write a", None, 0), operation("read", "a", 5, 6)],
    "unanswered, not done": [operation("write a", None, 0), operation("read", None, 5, 6)],
    "unanswered, done late": [
        *(operation("write a", None, 0), operation("write b", "ok", 1, 2)),
        *(operation("read", "b", 3, 4), operation("read", "a", 5, 6)),
    ],
}
IMPOSSIBLE = {
    "a stale read": [*SEQUENTIAL, operation("read", "a", 6, 7)],
    "a read of what was never written": [*SEQUENTIAL, operation("read", "z", 6, 7)],
    "a lost write": [operation("write a", "ok", 0, 1), operation("write b", "ok", 2, 3), operation("read", "a", 4, 5)],
    "two swaps of one value": [*SEQUENTIAL, operation("swap b c", True, 6, 9), operation("swap b d", True, 7, 8)],
    "a swap refused without cause": [*SEQUENTIAL, operation("swap b c", False, 6, 7)],
    "back in time": [
        *(operation("write a", "ok", 0, 1), operation("write b", "ok", 2, 9)),
        *(operation("read", "b", 3, 4), operation("read", "a", 5, 6)),
    ],
    "seen before it was sent": [
        *(operation("write a", "ok", 0, 1), operation("read", "b", 2, 3), operation("write b", "ok", 4, 5)),
    ],
    "unanswered, done and undone": [
        *(operation("write a", "ok", 0, 1), operation("write b", None, 2)),
        *(operation("read", "b", 3, 4), operation("read", "a", 5, 6)),
    ],
}


@pytest.mark.parametrize("history", POSSIBLE.values(), ids=POSSIBLE)
def test_it_takes_what_is_possible(history):
    assert is_linearizable(history, step, is_harmless)


@pytest.mark.parametrize("history", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_it_refuses_what_is_not(history):
    assert not is_linearizable(history, step, is_harmless)


def is_possible_in_some_order(history):
    """By trying all: the definition itself."""
    unanswered = [item for item in history if item.answer is None and item.ended == float("inf")]
    for number in range(len(unanswered) + 1):
        for left_out in itertools.combinations(unanswered, number):
            done = [item for item in history if not any(item is other for other in left_out)]
            if any(map(is_possible_as_it_stands, itertools.permutations(done))):
                return True
    return False


def is_possible_as_it_stands(order):
    if any(later.ended < earlier.begun for earlier, later in itertools.combinations(order, 2)):
        return False
    state = None
    try:
        for item in order:
            state = step(state, item.asked, item.answer)
    except Impossible:
        return False
    return True


def test_it_agrees_with_trying_every_order():
    chance, verdicts = random.Random(7), []
    for _ in range(1500):
        history = []
        for _ in range(chance.randrange(1, 6)):
            asked = chance.choice(["write a", "write b", "read", "read", "swap a b", "swap b a"])
            answers = {"write": ["ok"], "read": ["a", "b"], "swap": [True, False]}[asked.split()[0]]
            begun = chance.random()
            history.append(operation(asked, chance.choice(answers), begun, begun + chance.random()))
            if chance.random() < 0.1:
                history[-1] = history[-1]._replace(answer=None, ended=float("inf"))

        verdicts.append(is_linearizable(history, step, is_harmless))

        assert verdicts[-1] == is_possible_in_some_order(history), history

    assert 0.2 < sum(verdicts) / len(verdicts) < 0.8
