"""Linearizability checker for histories of concurrent operations on one image.

Wing and Gong's search with Lowe's memory of what was tried, as Porcupine does it: PyPI has no kept checker
(Porcupine is Go's, Knossos and Elle are Clojure's).
"""

import math
from typing import Any, NamedTuple


class Operation(NamedTuple):
    """What a client asked and was answered; ``answer`` None: never answered, it may have been done or not, or later."""

    asked: Any
    answer: Any
    begun: float
    ended: float = math.inf


class Impossible(Exception):
    """This answer cannot be given in this state."""


def is_linearizable(history, step, is_harmless, state=None):
    """``step(state, asked, answer)`` is the state after, or raises Impossible; states and operations are hashable.
    ``is_harmless(asked, answer)`` tells those that change no state whatever, such as reads and what was refused.

    An operation takes effect at one moment between its beginning and its end, so one that ended before another began
    comes first.
    """
    history = sorted(history, key=lambda operation: operation.begun)
    everything = (1 << len(history)) - 1
    stack, tried = [(0, state)], set()
    while stack:
        done, state = stack.pop()
        done = take_harmless(history, step, is_harmless, done, state)
        if (done, state) in tried:
            continue
        tried.add((done, state))
        if all(history[number].answer is None for number in numbers_of(everything & ~done)):
            return True
        for number in next_ones(history, done):
            after = outcome(step, state, history[number])
            if after is not Impossible:
                stack.append((done | 1 << number, after))
    return False


def take_harmless(history, step, is_harmless, done, state):
    """Those that are possible now and change nothing may as well come now: it spares the search most branches."""
    while True:
        for number in next_ones(history, done):
            asked, answer, *_ = history[number]
            if answer is not None and is_harmless(asked, answer) and outcome(step, state, history[number]) == state:
                done |= 1 << number
                break
        else:
            return done


def outcome(step, state, operation):
    try:
        return step(state, operation.asked, operation.answer)
    except Impossible:
        return Impossible


def next_ones(history, done):
    """The numbers of those that may come next: begun before any other that is left has ended."""
    first_end, candidates = math.inf, []
    for number in range((~done & (done + 1)).bit_length() - 1, len(history)):  # the lowest that is left
        if done >> number & 1:
            continue
        if history[number].begun > first_end:
            break  # in order of their beginnings: so have all that follow
        candidates.append(number)
        first_end = min(first_end, history[number].ended)
    return candidates


def numbers_of(bits):
    return [number for number in range(bits.bit_length()) if bits >> number & 1]
