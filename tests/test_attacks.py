"""Attacks on who a client is, against the users of a Rakit application: others' pages, addresses, cookies."""

# ruff: noqa: F811 - fixtures of another module are arguments here

from __future__ import annotations

import asyncio
import collections
import socket
import sys

import pytest

from conftest import until
from rakit_ws.rakit.source import RakitSource
from rakit_ws.user_options import Rakit
from raw_client import request
from test_rakit import (  # noqa: F401 - fixtures
    KEY,
    OTHER_KEY,
    application,
    cookie,
    encrypt,
    serve_application,
    sessions,
)

HOST = "app.example"

# What is not `https://app.example`, however much it looks like it.
OTHER_ORIGINS = [
    "null",
    "file://",
    "https://app.example.evil.example",
    "https://evil-app.example",
    "https://evilapp.example",
    "https://evil.example",
    "https://app.example:444",
    "https://app.example:80",
    "https://app.example:0443x",
    "https://app.example@evil.example",
    "https://evil.example?app.example",
    "https://evil.example#app.example",
    "https://evil.example/app.example",
    "https://app.example.",
    "https://app.example\\.evil.example",
    "https://app%2eexample",
    "https://xn--pp-xia.example",  # with another letter for the first a
    "https://\xe0pp.example",
    "https://app.example https://evil.example",
    "https://*",
    "https://*.example",
    "ws://app.example",
    "chrome-extension://app.example",
    "https://sub.app.example",
    "https://example",
]
OWN_ORIGINS = [
    "https://app.example",
    "http://app.example",
    "HTTPS://App.Example",
    "https://app.example:443",
]


async def shaken(client, *cookies, host=HOST, **headers):
    """Shake hands; return the status."""
    lines = [("Cookie", each) for each in cookies]
    lines += [(name.replace("_", "-"), value) for name, value in headers.items()]
    await client.send(request(host=host, headers=lines))
    return (await client.read_response()).status


# --- Pages of others


@pytest.mark.parametrize("origin", OTHER_ORIGINS)
async def test_page_of_somebody_else_is_never_a_user(
    application,
    serve_application,
    dial,
    origin,
):
    server = await serve_application(application, command_access="operators", operators=["1"])
    assert await shaken(await dial(server), cookie(), Origin=origin) == 403
    assert server.counters["cross_site_refusals"] == 1
    assert server.counters["users_identified"] == 0
    assert not server.clients


@pytest.mark.parametrize("origin", OWN_ORIGINS)
async def test_own_page_is_the_user(application, serve_application, dial, origin):
    server = await serve_application(application)
    assert await shaken(await dial(server), cookie(), Origin=origin) == 101
    assert server.counters["users_identified"] == 1


@pytest.mark.parametrize(
    ("listed", "origin", "expected"),
    [
        ("https://*.app.example", "https://a.app.example", 101),
        ("https://*.app.example", "https://a.b.app.example", 101),
        ("https://*.app.example", "https://A.APP.example", 101),
        ("https://*.app.example", "https://a.app.example:443", 101),
        ("https://*.app.example", "https://evilapp.example", 403),
        ("https://*.app.example", "https://a.app.example.evil.example", 403),
        ("https://*.app.example", "https://a.app.example:8443", 403),
        ("https://*.app.example", "http://a.app.example", 403),
        ("https://*.app.example", "https://*.app.example", 403),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", 101),
        ("https://xn--bcher-kva.example", "https://XN--BCHER-KVA.example", 101),
        ("https://xn--bcher-kva.example", "https://b\xfccher.example", 403),
        ("https://xn--bcher-kva.example", "https://bucher.example", 403),
        ("http://shop.example:8080", "http://shop.example:8080", 101),
        ("http://shop.example:8080", "http://shop.example", 403),
        ("http://shop.example:8080", "http://shop.example:80800", 403),
    ],
)
@pytest.mark.parametrize("key", ["allowed_origins", "cookie_origins"])
async def test_listed_pages_and_no_others_act_for_users(
    application,
    serve_application,
    dial,
    key,
    listed,
    origin,
    expected,
):
    more = {"auth": {key: [listed]}} if key == "cookie_origins" else {key: [listed]}
    server = await serve_application(application, **more)
    assert await shaken(await dial(server), cookie(), Origin=origin) == expected


@pytest.mark.parametrize(
    "forged",
    [
        {"X_Forwarded_Host": "evil.example"},
        {"Forwarded": "host=evil.example;proto=https"},
        {"X_Original_Host": "evil.example"},
        {"Referer": "https://app.example/"},
        {"Sec_Fetch_Site": "same-origin"},
    ],
)
async def test_headers_that_pages_or_proxies_may_add_change_no_origin(
    application,
    serve_application,
    dial,
    forged,
):
    server = await serve_application(application)
    assert (
        await shaken(await dial(server), cookie(), Origin="https://evil.example", **forged) == 403
    )


async def test_remember_cookie_of_a_page_elsewhere_is_no_way_round(
    application,
    serve_application,
    dial,
):
    inner = encrypt(b"1|" + b"x" * 40)
    remembered = "system_auth_drivers_magic_remember=" + encrypt(inner).decode().replace("=", "%3D")
    server = await serve_application(application)
    assert await shaken(await dial(server), remembered, Origin="https://evil.example") == 403
    assert await shaken(await dial(server), remembered, Origin="https://app.example") == 101
    assert server.counters["users_identified"] == 1


# --- Addresses, and who may command


async def may_command(client):
    return (await client.ask({"command": "presence"}))["type"] == "ack"


@pytest.mark.parametrize(
    "forged",
    [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-For", "::1"),
        ("X-Forwarded-For", "127.0.0.1, 127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("Forwarded", 'for="[::1]"'),
        ("Via", "1.1 127.0.0.1"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"host": "0.0.0.0"}, {"trusted_proxies": ["127.0.0.1"]}])
async def test_forged_address_gives_no_commands(serve, connect, forged, settings):
    client = await connect(await serve(**settings), headers=[forged])
    assert not await may_command(client)


@pytest.mark.parametrize(
    ("operators", "may"),
    [
        (["1"], True),
        (["budi@example.com"], True),
        (["2", "1"], True),
        (["Budi Santoso"], False),  # anybody may call himself so
        (["BUDI@example.com"], False),
        (["11"], False),
        (["01"], False),
        (["budi@example.com.evil.example"], False),
        (["Guest", "None", "null", "0"], False),
    ],
)
async def test_operators_are_known_by_id_or_address_alone(
    application,
    serve_application,
    connect,
    operators,
    may,
):
    server = await serve_application(application, command_access="operators", operators=operators)
    client = await connect(server, headers=[("Cookie", cookie())])
    assert await may_command(client) is may


@pytest.mark.parametrize("named", ["Guest", "None", "null", "", "1"])
async def test_guest_is_no_operator_whatever_operators_are_called(
    application,
    serve_application,
    connect,
    named,
):
    operators = [named] if named else []
    server = await serve_application(application, command_access="operators", operators=operators)
    client = await connect(server, headers=[("Cookie", cookie(key=OTHER_KEY))])
    assert not await may_command(client)
    for claim in ({"user": "1"}, {"user": {"id": "1"}}, {"client_id": "1"}, {"token": "1"}):
        await client.ask({"command": "presence", **claim}, request_id="claim")
        assert not await may_command(client)


# --- Cookies


async def test_cookie_of_another_application_is_a_guests(
    application,
    serve_application,
    dial,
):
    server = await serve_application(application)
    assert await shaken(await dial(server), cookie(key=OTHER_KEY)) == 101
    # The framework's own key for both cookies, but one cookie's name for the other's value.
    renamed = cookie().replace("rakit_session", "system_auth_drivers_magic_remember")
    assert await shaken(await dial(server), renamed) == 101
    assert server.counters["users_identified"] == 0


async def test_later_cookie_of_the_same_name_does_not_replace_the_first(
    application,
    serve_application,
    dial,
):
    """Another subdomain can set a cookie of the same name; browsers send the more specific first."""
    server = await serve_application(application)
    assert await shaken(await dial(server), f"{cookie(key=OTHER_KEY)}; {cookie()}") == 101
    assert server.counters["users_identified"] == 0
    assert await shaken(await dial(server), f"{cookie()}; {cookie(key=OTHER_KEY)}") == 101
    assert server.counters["users_identified"] == 1


async def test_request_with_an_oversized_cookie_is_431_and_the_largest_that_fits_a_guests(
    application,
    serve_application,
    dial,
):
    server = await serve_application(application, max_header_size=8192)
    bare = len(request(host=HOST, headers=[("Cookie", "rakit_session=")]))
    for beside, expected in [(-1, 101), (0, 101), (1, 431)]:
        value = "A" * (8192 - bare + beside)
        client = await dial(server)
        assert await shaken(client, f"rakit_session={value}") == expected
    assert server.counters["users_identified"] == 0


# --- Ten thousand logins with wrong MACs


LOGINS = 10_000


class Handshake:
    def __init__(self, header):
        self._header = header

    def header(self, name):
        return self._header if name == "cookie" else None


@pytest.fixture
async def source_without_anything(tmp_path):
    """Make a source whose store and database would fail whoever asked them."""
    settings = Rakit(
        key=KEY,
        session_path=str(tmp_path / "nowhere"),
        database_url=f"sqlite:///{tmp_path}/nowhere.sqlite",
    )
    source = RakitSource(settings, timeout_s=1)
    yield source
    await source.aclose()


def calls_of(function):
    """Count the calls, of Python and of C, that a call makes."""
    counted = collections.Counter()

    def count(frame, event, argument):
        if event in ("call", "c_call"):
            counted[event] += 1

    sys.setprofile(count)
    try:
        result = function()
    finally:
        sys.setprofile(None)
    return result, sum(counted.values())


async def test_wrong_macs_are_found_at_once_and_cost_the_same_each_time(source_without_anything):
    source = source_without_anything
    forged = [Handshake(cookie(key=OTHER_KEY)) for _ in range(100)]
    tasks = len(asyncio.all_tasks())
    costs = set()
    for number in range(LOGINS):
        found, calls = calls_of(lambda: source.authenticate(forged[number % 100]))  # noqa: B023
        assert found is None  # nothing is awaited, so nobody waits
        costs.add(calls)
    assert len(asyncio.all_tasks()) == tasks
    # No more calls for the last than for the first, and few of them: nothing is kept or looked up.
    assert max(costs) - min(costs) <= 2
    assert max(costs) < 40


async def test_longest_wrong_cookie_costs_no_more_calls_than_a_short_one(source_without_anything):
    source = source_without_anything
    short = encrypt(b"x", OTHER_KEY).decode()
    long = encrypt(b"x" * 8000, OTHER_KEY).decode()
    _, cost_short = calls_of(lambda: source.authenticate(Handshake(f"rakit_session={short}")))
    found, cost_long = calls_of(lambda: source.authenticate(Handshake(f"rakit_session={long}")))
    assert found is None
    assert abs(cost_long - cost_short) <= 2


async def test_others_have_their_turn_while_logins_with_wrong_macs_never_stop_coming(
    application,
    serve_application,
    connect,
):
    """For each batch that the server handles more of them come: who waited for an end would starve."""
    server = await serve_application(application)
    bystander = await connect(server)
    running = server._running
    handle_batch = running._handle_batch
    host, _, port = server.addresses[0].rpartition(":")
    forged = request(headers=[("Cookie", cookie(key=OTHER_KEY))])
    sent, is_fed = 0, True

    def log_in(count):
        nonlocal sent
        for _ in range(count):
            with socket.create_connection((host, int(port))) as peer:
                peer.sendall(forged)
            sent += 1

    def fed():
        if is_fed and sent < LOGINS:
            log_in(10)
        handle_batch()

    running._handle_batch = fed
    most = 0
    for _ in range(10):
        log_in(50)
        before = sent
        assert (await bystander.ask({"ping": 1}))["type"] == "pong"
        most = max(most, sent - before)
    is_fed = False
    await until(lambda: server.counters["requested"] == 1 + sent)
    assert server.counters["users_identified"] == 0
    assert server.counters["user_source_failures"] == 0
    # They had not run out, and they were far from it: a round of turns is all that it takes.
    assert most < LOGINS / 10
