"""What a batch hands messages to, and the native part of a client."""

import gc
import select
import weakref

import pytest

from rakit_ws import _core
from rakit_ws._core import ClientBase, Engine, Receiver, ShardedEngine
from rakit_ws.errors import UsageError
from raw_client import BINARY, frame, text


class Calls(list):
    """A receiver's three functions, and what they were called with."""

    def __init__(self, result):
        self.result = result

    def first(self, *args):
        self.append(("first", *args))
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    def rest(self, *args):
        self.append(("rest", *args))

    def keep(self, *args):
        self.append(("keep", *args))

    def receiver(self):
        return Receiver(self.first, self.rest, self.keep)


@pytest.fixture
def client():
    return ClientBase(Engine(), 1, 0)


def test_message_that_is_done_is_one_call(client):
    calls = Calls(True)
    calls.receiver()(client, 1, b"x")
    assert calls == [("first", client, 1, b"x")]


@pytest.mark.parametrize("result", [None, False, 1, "yes", object()])
def test_any_other_result_is_passed_on(client, result):
    calls = Calls(result)
    calls.receiver()(client, 2, b"x")
    assert calls[1:] == [("rest", client, 2, b"x", result, None)]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_what_is_raised_is_passed_on_with_its_traceback(client, error):
    calls = Calls(error)
    calls.receiver()(client, 1, b"x")
    assert calls[1:] == [("rest", client, 1, b"x", None, error)]
    assert error.__traceback__ is not None


def test_messages_of_a_client_with_a_mailbox_are_kept(client):
    calls = Calls(True)
    receiver = calls.receiver()
    client.mailbox = []
    receiver(client, 1, b"x")
    client.mailbox = None
    receiver(client, 1, b"y")
    assert calls == [("keep", client, 1, b"x"), ("first", client, 1, b"y")]


def test_what_the_rest_raises_is_raised(client):
    def fail(*_):
        raise LookupError

    with pytest.raises(LookupError):
        Receiver(fail, fail, fail)(client, 1, b"x")


def test_batch_hands_over_to_a_receiver_and_ends_with_what_it_raises(batches):
    peer, handle = batches.connect()
    client = batches.clients[handle] = ClientBase(batches.engine, handle, 0)
    calls = Calls(True)
    batches.receive = calls.receiver()
    peer.sendall(text("one") + text("two"))
    batches.run_until(lambda: len(calls) == 2)
    assert calls == [("first", client, 1, b"one"), ("first", client, 1, b"two")]
    batches.clients[handle] = "no client"
    peer.sendall(text("three"))
    with pytest.raises(TypeError):
        batches.run_until(lambda: False)


def texting(batches, handle, change):
    """Let messages come back as text, changed; return what that has raised."""
    client = ClientBase(batches.engine, handle, 0)
    raised = []

    def echo(client, _opcode, payload):
        try:
            client.send_frame(_core.TEXT, change(payload))
        except UsageError as error:
            raised.append(str(error))
        return True

    batches.clients[handle] = client
    batches.receive = Receiver(echo, echo, echo)
    return raised


def test_frame_is_sent_as_it_came(batches):
    peer, handle = batches.connect()
    texting(batches, handle, lambda payload: payload)
    message = "selamat pagi 🌅"
    peer.sendall(text(message))
    expected = bytes([0x81, len(message.encode())]) + message.encode()
    batches.run_until(lambda: select.select([peer], [], [], 0.01)[0])
    assert peer.recv(100) == expected


def test_only_the_very_message_is_not_validated_anew(batches):
    peer, handle = batches.connect()
    broken = b"\xff" * 10
    raised = texting(batches, handle, lambda _: broken)
    peer.sendall(text("x" * 10))
    batches.run_until(lambda: raised)
    assert raised == ["a text message must be UTF-8"]
    # Nor is anything believed of it when it has been handled.
    with pytest.raises(UsageError):
        batches.clients[handle].send_frame(_core.TEXT, broken)


def test_binary_message_is_validated_where_it_is_sent_as_text(batches):
    peer, handle = batches.connect()
    raised = texting(batches, handle, lambda payload: payload)
    peer.sendall(frame(BINARY, b"\xff" * 4))
    batches.run_until(lambda: raised)
    assert raised == ["a text message must be UTF-8"]


@pytest.mark.parametrize("make_engine", [Engine, lambda: ShardedEngine(2)])
def test_client_that_has_gone_is_inert(make_engine):
    client = ClientBase(make_engine(), 1, 0)
    assert client.send_frame(1, b"x") is False
    client.retire()
    assert client.send_frame(2, b"\xff") is False
    for opcode in (0, 3, 8, 1 << 70, -1):
        with pytest.raises(UsageError, match="opcode must be 1 or 2"):
            client.send_frame(opcode, b"x")
    for wrong in ("text", bytearray(b"x"), None):
        with pytest.raises(TypeError):
            client.send_frame(1, wrong)


def test_client_needs_an_engine_of_this_module():
    with pytest.raises(TypeError, match="ShardedEngine"):
        ClientBase(object(), 1, 0)


def test_collector_sees_into_both():
    class Client(ClientBase):
        pass

    engine = Engine()
    client = Client(engine, 1, 0)
    engine.notify_when_queued(client.retire)  # the engine knows the client, and that the engine
    client.mailbox = [Receiver(client.retire, client.retire, client.retire)]
    seen = weakref.ref(client)
    del client, engine
    gc.collect()
    assert seen() is None
