"""A batch of the native engine, without a server around it: what it hands over, and what it sends."""

import gc
import select
import weakref

import pytest

from rakit_ws import _core
from rakit_ws._core import ClientTable, Engine
from raw_client import text


def test_messages_come_with_their_client_and_in_order_with_the_end(batches):
    peer, handle = batches.connect()
    peer.sendall(text("one") + text("two"))
    peer.close()
    batches.run_until(lambda: len(batches.handed_over) == 3)
    assert list(batches.handed_over)[:2] == [
        ("client 0", _core.TEXT, b"one"),
        ("client 0", _core.TEXT, b"two"),
    ]
    kind, gone, (code, _reason, side) = batches.handed_over[2]
    assert (kind, gone, code, side) == (_core.CLOSED, handle, 1006, "lost")


def test_what_handlers_queue_goes_out_at_the_end_of_the_batch_without_a_flush(batches):
    peer, handle = batches.connect()
    batches.receive = lambda _client, _opcode, payload: batches.engine.send(handle, payload * 2)
    peer.sendall(text("ab"))
    batches.run_until(lambda: select.select([peer], [], [], 0.01)[0])
    assert peer.recv(100) == b"\x81\x04abab"


def test_handler_that_raises_ends_the_batch_behind_what_was_queued(batches):
    peer, handle = batches.connect()

    def receive(_client, _opcode, payload):
        if payload == b"two":
            raise KeyError(payload)
        batches.engine.send(handle, payload)

    batches.receive = receive
    peer.sendall(text("one") + text("two") + text("three"))
    with pytest.raises(KeyError):
        batches.run_until(lambda: False)
    assert peer.recv(100) == b"\x81\x03one"
    # Nothing is left behind in the engine: the next batch is like every other.
    batches.receive = lambda _client, _opcode, payload: batches.engine.send(handle, payload)
    peer.sendall(text("four"))
    batches.run_until(lambda: select.select([peer], [], [], 0.01)[0])
    assert peer.recv(100).endswith(b"\x81\x04four")


def test_client_that_is_not_known_is_an_error_of_the_caller(batches):
    peer, _ = batches.connect()
    batches.clients.clear()
    peer.sendall(text("x"))
    with pytest.raises(KeyError):
        batches.run_until(lambda: False)


def test_table_of_clients_finds_what_was_put_in_and_nothing_else():
    table, model = ClientTable(), {}
    handles = [generation << 32 | slot for slot in range(300) for generation in (1, 7, 2**32 - 1)]
    for handle in handles:
        table[handle] = model[handle] = object()
    assert len(table) == len(model)
    for handle in handles[::2]:
        assert table.take(handle) is model.pop(handle)
        assert table.take(handle) is None
    for handle in handles:
        assert (handle in table) == (handle in model)
        assert table.get(handle) is model.get(handle)
    assert table[handles[1]] is model[handles[1]]
    with pytest.raises(KeyError):
        table[handles[0]]
    table.clear()
    assert len(table) == 0


def test_table_of_clients_lets_the_collector_see_into_it():
    class Client:
        pass

    client = Client()
    client.table = ClientTable()
    client.table[1] = client
    seen = weakref.ref(client)
    del client
    gc.collect()
    assert seen() is None


def test_handle_may_have_any_64_bits_and_no_others():
    engine = Engine()
    for handle in (0, 1, 2**63 - 1, 2**63, 2**64 - 1):
        assert engine.send(handle, b"") is False
    for wrong, error in ((-1, OverflowError), (2**64, OverflowError), ("1", TypeError)):
        with pytest.raises(error):
            engine.send(wrong, b"")
