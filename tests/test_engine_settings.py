"""The engine's settings as they cross the border: `Engine(...)` and `Engine.configure`."""

from __future__ import annotations

import socket

import pytest

from rakit_ws._core import ClientTable, Engine
from rakit_ws.errors import UsageError


@pytest.mark.parametrize("call", [Engine, Engine().configure], ids=["new", "configure"])
@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"max_conections": 1}, 'no setting "max_conections"'),
        ({"max_connections": -1}, "max_connections must be a whole number"),
        ({"max_connections": 1 << 64}, "max_connections must be a whole number"),
        ({"max_connections": 1.5}, "max_connections must be a whole number"),
        ({"max_connections": None}, "max_connections must be a whole number"),
        ({"max_connections_per_ip": 1 << 32}, "max_connections_per_ip must be a whole number"),
        ({"ping_timeout_s": -0.001}, "ping_timeout_s must be 0 to 1e9 seconds"),
        ({"ping_timeout_s": 1.001e9}, "ping_timeout_s must be 0 to 1e9 seconds"),
        ({"ping_timeout_s": float("nan")}, "ping_timeout_s must be 0 to 1e9 seconds"),
        ({"ping_timeout_s": "1"}, "ping_timeout_s must be 0 to 1e9 seconds"),
        ({"slow_reader": "wait"}, 'slow_reader must be "close" or "drop"'),
        ({"trusted_proxies": "unix"}, "trusted_proxies must be a list of addresses"),
        ({"trusted_proxies": ["10.0.0.0/33"]}, "trusted_proxies must be a list of addresses"),
        ({"forwarding_header": "via"}, 'forwarding_header must be "x-forwarded-for"'),
        ({"proxy_protocol": 1}, "proxy_protocol must be True or False"),
        ({"message_rate": 5.0}, "message_rate must be 0 to 1e6 a second"),
        ({"message_rate": (-0.1, 1)}, "message_rate must be 0 to 1e6 a second"),
        ({"message_rate": (float("nan"), 1)}, "message_rate must be 0 to 1e6 a second"),
        ({"message_rate": (1.0, -1)}, "message_rate must be 0 to 1e6 a second"),
        ({"max_control_frames_per_s": 1.5}, "max_control_frames_per_s must be a whole number"),
        ({"max_fragments": 1 << 32}, "max_fragments must be a whole number"),
        ({"report_idle": 1}, "report_idle must be True or False"),
        ({"io_uring": "yes"}, "io_uring must be True or False"),
        ({"compression_level": 0}, "compression_level must be 1 to 9"),
        ({"compression_memory_level": 10}, "compression_memory_level must be 1 to 9"),
        ({"server_window_bits": 8}, "server_window_bits must be 9 to 15"),
        ({"client_window_bits": 16}, "client_window_bits must be 9 to 15"),
        ({"compression": None}, "compression must be True or False"),
    ],
)
def test_setting_that_cannot_be_is_a_usage_error_that_names_it(call, setting, complaint):
    with pytest.raises(UsageError, match=complaint):
        call(**setting)


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"max_connections": 0},
        {"max_message_bytes": (1 << 64) - 1},
        {"ping_timeout_s": 0},
        {"ping_timeout_s": 1e9},
        {"close_timeout_s": 1},
        {"slow_reader": "drop"},
        {"report_idle": True, "io_uring": False},
        {"trusted_proxies": ["10.0.0.0/8", "::1", "unix"], "forwarding_header": "forwarded"},
        {"trusted_proxies": (), "proxy_protocol": True},
        {"message_rate": (0, 0)},
        {"message_rate": (1e6, (1 << 32) - 1)},
        {"max_control_frames_per_s": 0},
        {"max_fragments": 0, "max_head_bytes": 0},
        {"compression": True, "compression_minimum_size": 0, "compression_level": 9},
        {"server_window_bits": 9, "client_window_bits": 15, "server_context_takeover": True},
    ],
)
def test_settings_may_be_given_alone_and_at_their_bounds(setting):
    Engine(**setting)
    Engine().configure(**setting)


def test_settings_that_are_not_given_stay_and_a_wrong_one_changes_none():
    engine = Engine(handshake_timeout_s=5000)
    engine.listen("127.0.0.1", 0)
    host, _, port = engine.addresses[0].rpartition(":")
    with socket.create_connection((host, int(port))):
        while not engine.connection_count:
            engine.handle_batch(ClientTable(), None, None)
        engine.configure(ping_timeout_s=7)
        assert engine.next_deadline_s == pytest.approx(5000, abs=60)
        with pytest.raises(UsageError, match="ping_timeout_s"):
            engine.configure(handshake_timeout_s=2000, ping_timeout_s=-1)
        assert engine.next_deadline_s == pytest.approx(5000, abs=60)
        engine.configure(handshake_timeout_s=2000)
        assert engine.next_deadline_s == pytest.approx(2000, abs=60)
