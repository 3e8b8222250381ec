"""The conformance cases, against `examples/echo.py` in a process of its own."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from cases import (
    FRAME_WISE,
    INVALID_PAYLOAD,
    NORMAL,
    OUT_OF_RANGE,
    QUIET,
    all_cases,
    texts,
)
from peer import Peer, echo_server

from raw_client import TEXT, close, frame

CASES = list(all_cases())
# What the suite has in these groups: a case that is lost here would not be missed.
COUNTS = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1}


@pytest.fixture(scope="module")
def echo_port():
    with echo_server() as port:
        yield port


@pytest.fixture
def connect(echo_port):
    """Open WebSockets that are closed with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Peer(echo_port)))


@pytest.fixture
def bystander(connect):
    """Return a second client, whose pong proves what the server has read from the first."""
    return connect()


def exchange(peer, bystander, case):
    """Send what a case sends; check its answers, and that they are all of them."""
    for step in steps(case):
        if step == QUIET:
            assert peer.has_nothing(bystander)
        elif isinstance(step, bytes):
            peer.send(step, case.cut)
        else:
            assert peer.read_frame() == step
    for answer in case.answers:
        assert peer.read_frame() == answer


def steps(case):
    """Return what a case sends, joined to what is written at once."""
    if case.cut == FRAME_WISE:
        return case.sends
    runs = itertools.groupby(case.sends, key=lambda step: bool(step) and isinstance(step, bytes))
    return [step for sent, run in runs for step in ([b"".join(run)] if sent else run)]


def test_no_case_of_these_groups_is_missing():
    counted = {}
    for case in CASES:
        group = int(case.number.split(".")[0])
        counted[group] = counted.get(group, 0) + 1
    assert counted == COUNTS
    assert len({case.number for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_case(connect, bystander, case):
    peer = connect()
    for _ in range(case.rounds):
        exchange(peer, bystander, case)
    if case.code is None:
        peer.send(close(NORMAL))
    assert peer.read_close() == (case.code or NORMAL)
    if case.code is not None:
        # Where we have sent a Close this one is ignored, otherwise it is the answer.
        peer.send(close(NORMAL))
    assert peer.at_end()


# --- Beyond the suite: each invalid text, fail-fast


def proof(text):
    """Return how many bytes of a text prove that it is invalid; None if only its end does."""
    ends = range(1, len(text) + 1)
    return next((end for end in ends if not can_become_valid(text[:end])), None)


def can_become_valid(text):
    """Tell whether there is anything that, put behind a text, makes it valid."""
    # The edges of all ranges that the next bytes of a character may be from (RFC 3629 §4).
    edges = (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF)
    endings = itertools.chain.from_iterable(
        itertools.product(edges, repeat=count) for count in range(4)
    )
    return any(is_valid(text + bytes(ending)) for ending in endings)


def is_valid(text):
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_the_table_of_texts_agrees_with_another_decoder():
    assert [number for number, valid, text in texts() if valid != is_valid(text)] == []
    assert proof(OUT_OF_RANGE) == 13


PROVEN = [(number, text, proof(text)) for number, valid, text in texts() if not valid]


@pytest.mark.parametrize(
    ("text", "end"),
    [pytest.param(text, end, id=number) for number, text, end in PROVEN if end],
)
def test_invalid_text_is_refused_at_the_byte_that_proves_it(connect, bystander, text, end):
    # The header claims more than there is, so that the server cannot be waiting for the end.
    whole = frame(TEXT, text + b"never sent")
    header = len(whole) - len(text + b"never sent")
    peer = connect()
    peer.send(whole[: header + end - 1])
    assert peer.has_nothing(bystander)
    peer.send(whole[header + end - 1 : header + end])
    assert peer.read_close() == INVALID_PAYLOAD
    assert peer.at_end()


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=number) for number, text, end in PROVEN if end is None]
)
def test_text_that_ends_within_a_character_is_refused_at_its_end(connect, bystander, text):
    peer = connect()
    peer.send(frame(TEXT, text, fin=False))
    assert peer.has_nothing(bystander)
    peer.send(frame(0, b""))
    assert peer.read_close() == INVALID_PAYLOAD
