"""Who a client is: sources, their order, their failures, and what pages of other sites get."""

from __future__ import annotations

import asyncio

import pytest

from conftest import until
from rakit_ws import ConfigError, Refused, SourceDownError, UsageError, User
from raw_client import request

ANI = User("7", "Ani", "ani@example.com", {"role": "editor"})


def with_headers(**headers):
    return {"headers": [(name.replace("_", "-"), value) for name, value in headers.items()]}


async def status(client, **headers):
    """Shake hands with these headers; return the status of the answer."""
    await client.send(request(**with_headers(**headers)))
    return (await client.read_response()).status


def only(server):
    (client,) = server.clients.values()
    return client


# --- The user


def test_a_user_has_its_columns_as_attributes():
    assert (ANI.role, ANI.columns["role"], ANI.id) == ("editor", "editor", "7")
    assert getattr(ANI, "salary", None) is None
    with pytest.raises(AttributeError, match="salary"):
        ANI.salary  # noqa: B018
    assert {ANI: 1}[User("7", "Ani", "ani@example.com", {"role": "editor"})] == 1


def test_a_user_whose_id_is_no_string_is_a_mistake():
    with pytest.raises(UsageError, match="not int"):
        User(7)


async def test_without_sources_everybody_is_a_guest(server, connect):
    await connect(server)
    assert only(server).user is None
    assert server.counters["users_identified"] == 0


@pytest.mark.parametrize("is_async", [False, True])
async def test_function_says_who_it_is(make_server, serve, connect, is_async):
    server = make_server(presence={"fields": ["name", "email", "role"], "interval": 0})

    def known(request):
        return ANI if request.header("x-token") == "right" else None

    async def known_later(request):
        await asyncio.sleep(0)
        return known(request)

    server.authenticate(known_later if is_async else known)
    await serve(server)
    client = await connect(server, headers=[("X-Token", "right")])
    presence = await client.receive()
    (shown,) = presence["users"]
    assert (shown["name"], shown["email"], shown["role"]) == ("Ani", "ani@example.com", "editor")
    assert only(server).user is ANI
    assert server.counters["users_identified"] == 1
    guest = await connect(server)
    assert [each["name"] for each in (await guest.receive())["users"]] == ["Ani", "Guest"]


async def test_user_without_a_name_is_shown_as_guest_and_keeps_the_address(
    make_server, serve, connect
):
    server = make_server(presence={"interval": 0})
    users = iter([User("4", "", "noname@example.com"), User("5", None), User("6", "0")])
    server.authenticate(lambda request: next(users))
    await serve(server)
    for _ in range(3):
        client = await connect(server)
    shown = (await client.receive())["users"]
    assert [each["name"] for each in shown] == ["Guest", "Guest", "0"]
    assert [each["email"] for each in shown] == ["noname@example.com", None, None]


async def test_user_is_known_before_the_connect_hooks_which_may_replace_it(
    make_server, serve, connect
):
    server = make_server()
    seen = []

    @server.authenticate(cookies=False)
    async def authenticate(request):
        return ANI

    @server.on("connect")
    def connect_hook(client):
        seen.append(client.user)
        client.user = None

    await serve(server)
    await connect(server)
    assert seen == [ANI]
    assert only(server).user is None


async def test_user_is_an_operator_by_id(make_server, serve, connect):
    server = make_server(command_access="operators", operators=["7"])
    server.authenticate(lambda request: ANI)
    client = await connect(await serve(server))
    await client.send({"command": "broadcast", "message": 1, "id": 1})
    assert (await client.receive())["type"] == "broadcast"


# --- Mistakes of the application


async def test_second_function_is_a_mistake(make_server, serve):
    server = make_server()
    server.authenticate(lambda request: None)
    with pytest.raises(UsageError, match="one function"):
        server.authenticate(lambda request: None)
    with pytest.raises(UsageError, match="not str"):
        make_server().authenticate("f")
    await serve(server)
    with pytest.raises(UsageError, match="before the server runs"):
        server.authenticate(lambda request: None)


async def test_function_that_is_named_and_not_there_is_a_mistake(make_server):
    with pytest.raises(ConfigError, match=r"@server\.authenticate"):
        async with make_server(auth={"sources": ["function"]}):
            pass


# --- Refusals


async def test_guests_are_refused_where_users_are_required(make_server, serve, dial):
    server = make_server(auth={"required": True})
    server.authenticate(lambda request: ANI if request.header("x-token") else None)
    await serve(server)
    assert await status(await dial(server)) == 401
    assert await status(await dial(server), x_token="x") == 101


async def test_required_without_any_source_refuses_everybody(serve, dial):
    assert await status(await dial(await serve(auth={"required": True}))) == 401


@pytest.mark.parametrize("is_async", [False, True])
async def test_function_may_refuse(make_server, serve, dial, is_async):
    server = make_server()

    def refuse(request):
        raise Refused(402, "pay first")

    async def refuse_later(request):
        refuse(request)

    server.authenticate(refuse_later if is_async else refuse)
    client = await dial(await serve(server))
    await client.send(request())
    response = await client.read_response()
    assert (response.status, response.body) == (402, "pay first\n")


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 503),
        ({"on_failure": "guest"}, 101),
        ({"on_failure": "guest", "required": True}, 503),
    ],
)
async def test_source_that_is_down(make_server, serve, dial, is_async, settings, expected):
    server = make_server(auth=settings)

    def fail(request):
        raise SourceDownError("the directory is gone")

    async def fail_later(request):
        fail(request)

    server.authenticate(fail_later if is_async else fail)
    assert await status(await dial(await serve(server))) == expected
    assert server.counters["user_source_failures"] == 1


async def test_reason_of_a_failure_is_logged_and_not_told(make_server, serve, dial, caplog):
    server = make_server()

    @server.authenticate
    def authenticate(request):
        raise SourceDownError("the directory is gone")

    await serve(server)
    for _ in range(3):
        client = await dial(server)
        await client.send(request())
        assert "directory" not in (await client.read_response()).body
    logged = [record for record in caplog.records if "users of function" in record.getMessage()]
    assert ["the directory is gone" in record.getMessage() for record in logged] == [True]


@pytest.mark.parametrize("is_async", [False, True])
async def test_function_that_is_broken_is_a_failure_with_its_traceback(
    make_server, serve, dial, logged_errors, is_async
):
    server = make_server()

    def broken(request):
        raise KeyError("a mistake")

    async def broken_later(request):
        broken(request)

    server.authenticate(broken_later if is_async else broken)
    assert await status(await dial(await serve(server))) == 503
    assert logged_errors() == ["user source failed"]


async def test_source_that_hangs_has_its_time_and_delays_nobody_else(make_server, serve, dial):
    server = make_server(auth={"timeout": 0.3})
    forever = asyncio.Event()

    @server.authenticate
    async def authenticate(request):
        if request.header("x-slow"):
            await forever.wait()
        return ANI

    await serve(server)
    slow = await dial(server)
    await slow.send(request(**with_headers(x_slow="1")))
    assert await status(await dial(server)) == 101
    assert (await slow.read_response()).status == 503
    assert server.counters["user_source_failures"] == 1


async def test_sources_that_do_not_fit_in_the_handshake_have_less_time():
    from rakit_ws import Config
    from rakit_ws.user_options import Auth

    config = Config(handshake_timeout=2.0, auth=Auth(timeout=4.0, sources=("function",)))
    assert config.source_timeout(1) == pytest.approx(1.8)
    assert config.source_timeout(2) == pytest.approx(0.9)
    assert any("auth.timeout" in each for each in config.warnings())
    assert Config().source_timeout(1) == 4.0
    assert Config().warnings() == []


async def test_lookup_of_a_client_that_is_gone_is_cancelled(make_server, serve, dial):
    server = make_server()
    ended = asyncio.Event()
    begun = asyncio.Event()

    @server.authenticate
    async def authenticate(request):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await serve(server)
    client = await dial(server)
    await client.send(request())
    await begun.wait()
    await client.aclose()
    await asyncio.wait_for(ended.wait(), 5)
    await until(lambda: server.counters["abandoned"] == 1)
    assert server.counters["user_source_failures"] == 0


# --- Pages of other sites (protocol §1)

OWN = "http://localhost"


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        (None, "localhost", 101),
        (OWN, "localhost", 101),
        ("http://LOCALHOST", "localhost", 101),
        ("https://localhost", "localhost", 101),  # TLS may have ended at a proxy
        ("http://localhost:80", "localhost", 101),
        ("https://localhost:443", "localhost", 101),
        ("http://localhost:8080", "localhost:8080", 101),
        ("http://[::1]:8080", "[::1]:8080", 101),
        ("http://xn--bcher-kva.example", "xn--bcher-kva.example", 101),
        ("http://localhost:8080", "localhost", 403),
        ("http://localhost", "localhost:8080", 403),
        ("https://localhost:80", "localhost:443", 403),
        ("null", "localhost", 403),
        ("", "localhost", 403),
        ("http://localhost.evil.example", "localhost", 403),
        ("http://evil-localhost", "localhost", 403),
        ("http://evil.example", "localhost", 403),
        ("http://evil.example#localhost", "localhost", 403),
        ("http://localhost@evil.example", "localhost", 403),
        ("http://*", "localhost", 403),
        ("http://bücher.example", "xn--bcher-kva.example", 403),
        ("http://localhost, http://evil.example", "localhost", 403),
    ],
)
async def test_cookies_count_for_pages_of_the_own_host_only(
    make_server, serve, dial, origin, host, expected
):
    server = make_server()
    server.authenticate(lambda request: ANI)
    client = await dial(await serve(server))
    headers = [("Cookie", "session=1")]
    if origin is not None:
        headers.append(("Origin", origin.encode().decode("latin-1")))
    await client.send(request(host=host, headers=headers))
    assert (await client.read_response()).status == expected
    assert server.counters["cross_site_refusals"] == (expected == 403)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://app.example.com", 101),
        ("https://other.example.com", 403),
        ("https://app.example.com.evil.example", 403),
        ("null", 403),
    ],
)
async def test_cookies_count_for_pages_of_allowed_origins(
    make_server, serve, dial, origin, expected
):
    server = make_server(allowed_origins=["https://app.example.com"], origin_required=False)
    server.authenticate(lambda request: ANI)
    await serve(server)
    assert await status(await dial(server), cookie="session=1", origin=origin) == expected


async def test_forwarded_host_does_not_make_an_origin_ones_own(make_server, serve, dial):
    server = make_server()
    server.authenticate(lambda request: ANI)
    await serve(server)
    answer = await status(
        await dial(server),
        cookie="session=1",
        origin="http://evil.example",
        x_forwarded_host="evil.example",
        forwarded="host=evil.example",
    )
    assert answer == 403


async def test_page_of_another_site_may_be_a_guest(make_server, serve, dial):
    server = make_server()
    server.authenticate(lambda request: None)
    await serve(server)
    assert await status(await dial(server), cookie="session=1", origin="http://evil.example") == 101


async def test_function_that_reads_no_cookies_is_for_pages_of_every_site(make_server, serve, dial):
    server = make_server()
    server.authenticate(cookies=False)(lambda request: ANI)
    await serve(server)
    assert await status(await dial(server), cookie="session=1", origin="http://any.example") == 101


async def test_user_without_a_cookie_is_for_pages_of_every_site(make_server, serve, dial):
    server = make_server()
    server.authenticate(lambda request: ANI)
    await serve(server)
    assert await status(await dial(server), origin="http://any.example") == 101
