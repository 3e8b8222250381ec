"""A native engine without a server around it, whose batches a test looks at."""

import select
import socket
from collections import deque

import pytest

from rakit_ws import _core
from rakit_ws._core import ClientTable, Engine
from raw_client import request


class Batches:
    """An engine with connections over real sockets, and what it has handed over."""

    def __init__(self):
        self.engine = Engine()
        self.engine.listen("127.0.0.1", 0)
        self.clients = ClientTable()
        self.handed_over = deque()
        self.sockets = []

    def connect(self):
        host, _, port = self.engine.addresses[0].rpartition(":")
        peer = socket.create_connection((host, int(port)), timeout=5)
        self.sockets.append(peer)
        peer.sendall(request())
        self.run_until(lambda: self.handed_over)
        kind, handle, _ = self.handed_over.popleft()
        assert kind == _core.REQUESTED
        assert self.engine.accept(handle)
        self.engine.flush()
        while b"\r\n\r\n" not in peer.recv(4096):
            pass
        self.clients[handle] = f"client {len(self.clients)}"
        return peer, handle

    def run_until(self, is_done):
        while not is_done():
            assert select.select([self.engine.fileno()], [], [], 5)[0], "nothing comes"
            self.engine.handle_batch(self.clients, self.receive, self.on_event)

    def receive(self, client, opcode, payload):
        self.handed_over.append((client, opcode, payload))

    def on_event(self, kind, handle, content):
        self.handed_over.append((kind, handle, content))

    def close(self):
        for peer in self.sockets:
            peer.close()


@pytest.fixture
def batches():
    batches = Batches()
    yield batches
    batches.close()
