"""Users by signed tokens: what is valid, what attackers try, and keys that change."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from functools import cache

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from conftest import until
from identities import Authority
from rakit_ws import ConfigError, SourceDownError
from rakit_ws.auth.chain import new_counts
from rakit_ws.auth.jwt import MAX_TOKEN_CHARS, JwtSource, query_value
from rakit_ws.auth.keys import (
    MAX_DOCUMENT_BYTES,
    MAX_KEYS,
    MAX_TRIED,
    MIN_REFRESH_S,
    STALE_FACTOR,
    KeysAtUrl,
    fitting,
    keys_in,
)
from rakit_ws.source_options import Jwt
from raw_client import request
from web_server import always, never, web_server

SECRET = "a secret that nobody guesses, 32+"
ASYMMETRIC = ("RS256", "ES256", "EdDSA")


@cache
def private_key(algorithm, name=""):
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key, **more):
    if isinstance(key, rsa.RSAPrivateKey):
        kind = RSAAlgorithm
    else:
        kind = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else OKPAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), **more}


def key_set(*entries):
    return {"keys": list(entries)}


def claims(**changed):
    sound = {"sub": "7", "name": "Ani", "email": "ani@example.com", "exp": int(time.time()) + 60}
    return {key: value for key, value in {**sound, **changed}.items() if value is not ...}


def token(key=SECRET, algorithm="HS256", headers=None, **changed):
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers=headers)


def signed(body, header=None, secret=None):
    """Make a token with HS256 by hand: of anything, with any secret."""
    start = f"{encoded(header or {'alg': 'HS256', 'typ': 'JWT'})}.{encoded(body)}"
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return f"{start}.{encoded(hmac.sign(start.encode(), secret or SECRET.encode()))}"


def encoded(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def source(**settings):
    if "algorithms" not in settings:
        settings.setdefault("secret", SECRET)
    return JwtSource(Jwt(**settings), timeout_s=1.0, counts=new_counts())


def with_file(tmp_path, content, **settings):
    path = tmp_path / "keys"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return source(keys_file=str(path), **settings)


# --- What is valid


def test_token_says_who_it_is():
    user = source().identify(token(role="editor", iat=1, channels=["private-7", 5], password="x"))
    assert (user.id, user.name, user.email, user.role) == ("7", "Ani", "ani@example.com", "editor")
    assert user.channels == ("private-7",)
    assert dict(user.columns) == {"name": "Ani", "email": "ani@example.com", "role": "editor"}


def test_claims_may_have_other_names():
    known = source(
        id_claim="uid", name_claim="nickname", email_claim="mail", channels_claim="topics"
    )
    made = token(sub=..., uid=42, nickname="A", mail="a@b", topics=["t"])
    user = known.identify(made)
    assert (user.id, user.name, user.email, user.channels) == ("42", "A", "a@b", ("t",))


@pytest.mark.parametrize("user_id", [None, "", True, 1.5, ["7"], {"id": 7}, ...])
def test_token_without_a_proper_id_names_nobody(user_id):
    known = source()
    assert known.identify(token(sub=user_id)) is None
    assert known._counts["tokens_refused"] == 1


def test_name_that_is_no_text_is_none():
    user = source().identify(token(name=5, email={"a": 1}))
    assert (user.name, user.email) == (None, None)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
@pytest.mark.parametrize("form", ["pem", "key set"])
def test_public_key_in_a_file_checks_its_algorithm(tmp_path, algorithm, form):
    key = private_key(algorithm)
    content = pem(key) if form == "pem" else key_set(jwk(key, kid="one", use="sig"))
    known = with_file(tmp_path, content, algorithms=[algorithm])
    assert known.identify(token(key, algorithm)).id == "7"
    assert known.identify(token(key, algorithm, {"kid": "one"})).id == "7"
    assert known.identify(token(private_key(algorithm, "other"), algorithm)) is None


def test_certificate_in_a_file_is_its_public_key(tmp_path):
    key = private_key("ES256")
    identity = Authority().issue(tmp_path, key=key)
    known = source(keys_file=str(identity.certificate), algorithms=["ES256"])
    assert known.identify(token(key, "ES256")).id == "7"


def test_secret_and_public_keys_may_be_used_beside_each_other(tmp_path):
    key = private_key("EdDSA")
    known = with_file(tmp_path, pem(key), algorithms=["HS256", "EdDSA"], secret=SECRET)
    assert known.identify(token()).id == "7"
    assert known.identify(token(key, "EdDSA")).id == "7"


# --- Times, issuer, audience


@pytest.mark.parametrize(("exp", "is_valid"), [(-3, True), (-60, False)])
def test_expired_token_is_valid_within_the_leeway(exp, is_valid):
    found = source(leeway=30).identify(token(exp=int(time.time()) + exp))
    assert (found is not None) == is_valid
    assert source(leeway=0).identify(token(exp=int(time.time()) + exp)) is None


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_token_of_the_future_is_not_valid_yet(claim):
    assert source(leeway=5).identify(token(**{claim: int(time.time()) + 60})) is None
    assert source(leeway=120).identify(token(**{claim: int(time.time()) + 60})) is not None


def test_user_expires_with_the_token_and_the_leeway():
    exp = int(time.time()) + 60
    assert source(leeway=7).identify(token(exp=exp)).expires_at == exp + 7


def test_token_that_never_expires_is_valid_only_where_that_is_allowed():
    assert source().identify(token(exp=...)) is None
    user = source(require_expiry=False).identify(token(exp=...))
    assert (user.id, user.expires_at) == ("7", None)


@pytest.mark.parametrize("exp", ["soon", None, [1], 10**400, True, "9999999999"])
def test_time_that_is_none_is_not_valid(exp):
    assert source().identify(token(exp=exp)) is None


def test_infinite_time_is_not_valid():
    assert source().identify(signed(b'{"sub":"7","exp":Infinity}')) is None


def test_issuer_must_be_the_one():
    known = source(issuer="https://issuer.example")
    assert known.identify(token(iss="https://issuer.example")).id == "7"
    for iss in ("https://issuer.example/", "https://evil.example", ...):
        assert known.identify(token(iss=iss)) is None
    assert known.identify(signed(claims(iss=["https://issuer.example"]))) is None


def test_audience_must_be_one_of_ours():
    known = source(audience=["chat", "news"])
    assert known.identify(token(aud="chat")).id == "7"
    assert known.identify(token(aud=["x", "news"])).id == "7"
    assert known.identify(token(aud=["x"])) is None
    assert known.identify(token()) is None


def test_token_for_somebody_else_is_not_valid_where_no_audience_is_configured():
    assert source().identify(token(aud="another application")) is None


# --- Attacks


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", "HS384", "hs256", None, 5, ["HS256"]])
def test_algorithm_that_is_not_configured_is_refused(alg):
    known = source()
    for signature in ("", token().rpartition(".")[2]):
        made = f"{encoded({'alg': alg, 'typ': 'JWT'})}.{encoded(claims())}.{signature}"
        assert known.identify(made) is None


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_public_key_is_no_secret_of_hs256(tmp_path, algorithm):
    """The confusion of algorithms (RFC 8725 §2.1): signed with what everybody may know."""
    key = private_key(algorithm)
    confused = [
        with_file(tmp_path, pem(key), algorithms=[algorithm]),
        with_file(tmp_path, pem(key), algorithms=[algorithm, "HS256"], secret=SECRET),
    ]
    for secret in (pem(key), pem(key).strip(), json.dumps(jwk(key)).encode()):
        made = signed(claims(), secret=secret)
        assert [each.identify(made) for each in confused] == [None, None]
    assert source().identify(signed(claims())).id == "7"


def test_key_in_the_token_itself_is_not_looked_at(tmp_path):
    ours, theirs = private_key("ES256"), private_key("ES256", "theirs")
    known = with_file(tmp_path, pem(ours), algorithms=["ES256"])
    for header in (
        {"jwk": jwk(theirs)},
        {"jku": "http://127.0.0.1:1/"},
        {"kid": "../../dev/null"},
        {"x5u": "http://127.0.0.1:1/"},
    ):
        assert known.identify(token(theirs, "ES256", header)) is None


def test_key_is_good_for_its_own_algorithm_only(tmp_path):
    rsa_key, ec_key = private_key("RS256"), private_key("ES256")
    entries = key_set(jwk(rsa_key, kid="a"), jwk(ec_key, kid="b"))
    known = with_file(tmp_path, entries, algorithms=["RS256", "ES256"])
    assert known.identify(token(ec_key, "ES256", {"kid": "b"})).id == "7"
    assert known.identify(token(ec_key, "ES256", {"kid": "a"})) is None


@pytest.mark.parametrize(
    "made",
    [
        "",
        "..",
        "a.b.c",
        "é.é.é",
        "\ud800.\ud800.\ud800",
        token()[:-1],
        token() + "x",
        token().replace(".", "..", 1),
        token() + ".x.y",
        encoded(b"[" * 3000) + ".e30.",
        encoded(b'{"alg":"HS256","x":' + b"[" * 3000) + ".e30.",
        encoded([]) + ".e30.",
        encoded({"alg": "HS256", "kid": 5}) + ".e30.",
        encoded({"alg": "HS256", "crit": ["x"]}) + ".e30.",
    ],
)
def test_text_that_is_no_token_names_nobody(made):
    known = source()
    assert known.identify(made) is None
    assert known._counts["tokens_refused"] == 1


def test_every_changed_character_of_a_token_is_found():
    known, made = source(), token()
    for index in range(0, len(made) - 2, 7):
        swapped = "A" if made[index] != "A" else "B"
        assert known.identify(made[:index] + swapped + made[index + 1 :]) is None
    assert known.identify(made).id == "7"


def test_token_of_the_greatest_length_is_taken_and_a_longer_one_is_not():
    known = source()
    short = token(x="")
    text = "x" * ((MAX_TOKEN_CHARS - len(short)) * 3 // 4 - 2)
    while len(made := token(x=text)) < MAX_TOKEN_CHARS - 1:
        text += "x"
    assert len(made) <= MAX_TOKEN_CHARS
    assert known.identify(made).id == "7"
    assert known.identify(token(x=text + "xxxx")) is None


# --- Keys


def test_keys_that_are_no_public_keys_for_signatures_are_left_out():
    good = private_key("ES256")
    private = json.loads(ECAlgorithm.to_jwk(good))
    weak = rsa.generate_private_key(65537, 1024)
    document = key_set(
        {"kty": "oct", "k": encoded(SECRET.encode())},
        private,
        jwk(good, use="enc"),
        jwk(weak),
        jwk(ec.generate_private_key(ec.SECP384R1())),
        jwk(private_key("RS256"), alg="HS256"),
        {"kty": "RSA", "n": "AQAB", "e": "!"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": 5},
        {},
        5,
        jwk(good, kid="good", alg="ES256"),
        jwk(good, kid=5),
    )
    found = keys_in(json.dumps(document).encode())
    assert [(key.kid, key.algorithm) for key in found] == [("good", "ES256"), (None, "ES256")]


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys":5}', b"[" * 5000, b"\xff"])
def test_document_that_is_no_key_set_has_no_keys(document):
    assert keys_in(document) == []


def test_keys_beyond_the_limit_are_not_looked_at():
    entries = [jwk(private_key("ES256"), kid=str(number)) for number in range(MAX_KEYS + 1)]
    assert len(keys_in(json.dumps(key_set(*entries[:MAX_KEYS])).encode())) == MAX_KEYS
    assert len(keys_in(json.dumps(key_set(*entries)).encode())) == MAX_KEYS


def test_few_keys_are_tried_for_a_token_that_names_none():
    entries = [jwk(private_key("ES256"), kid=str(number)) for number in range(MAX_TRIED + 1)]
    found = keys_in(json.dumps(key_set(*entries)).encode())
    assert len(fitting(found, "ES256", None)) == MAX_TRIED
    assert [key.kid for key in fitting(found, "ES256", "4")] == ["4"]
    assert fitting(found, "ES256", "5") == []


# --- Configurations that can't be


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"secret": ""}, "jwt.secret: missing"),
        ({"algorithms": ["RS256"]}, "RS256 without keys"),
        ({"keys_url": "https://x.example/"}, "public keys, but only HS256"),
        ({"algorithms": ["RS256"], "keys_url": "https://x.example/", "secret": SECRET}, "not in"),
        ({"algorithms": ["RS256"], "keys_url": "https://x.example/", "keys_file": "k"}, "both"),
        ({"algorithms": ["RS256"], "keys_file": "/nowhere"}, "can't be read"),
        ({"secret": SECRET[:31]}, "32 characters"),
        ({"secret": "-----BEGIN PUBLIC KEY----- and so on"}, "no key in PEM"),
        ({"algorithms": ["none"]}, "HS256, RS256"),
        ({"keys_url": "ftp://x.example/"}, "https://"),
        ({"keys_url": "https://user:password@x.example/"}, "https://"),
    ],
)
def test_configuration_that_can_not_be(settings, message):
    with pytest.raises(ConfigError, match=message) as fault:
        source(**settings)
    assert SECRET not in str(fault.value)


def test_files_without_a_key_that_can_be_used(tmp_path):
    private = private_key("RS256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, message in [
        (private, "a private key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no key"),
        (b"{}", "no key"),
        (pem(private_key("ES256")), "only for ES256"),
    ]:
        with pytest.raises(ConfigError, match=message):
            with_file(tmp_path, content, algorithms=["RS256"])


def test_secret_is_not_shown():
    assert SECRET not in repr(Jwt(secret=SECRET))


# --- Keys at a URL


class Time:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
async def published():
    """A URL with a key set of one key, "one"."""
    async with web_server(always(key_set(jwk(private_key("ES256"), kid="one")))) as server:
        yield server


@pytest.fixture
async def keys_at():
    made = []

    def at(url, **settings):
        clock = Time()
        settings = {"cache_s": 600.0, "timeout_s": 2.0, **settings}
        keys = KeysAtUrl(url, clock=clock, **settings)
        made.append(keys)
        return keys, clock

    yield at
    for keys in made:
        await keys.aclose()


async def kids(keys, kid="one"):
    found = keys.find("ES256", kid)
    return [key.kid for key in (found if isinstance(found, list) else await found)]


async def test_keys_are_fetched_once_for_all_who_wait_and_kept(published, keys_at):
    keys, clock = keys_at(published.url)
    assert await asyncio.gather(*(kids(keys) for _ in range(50))) == [["one"]] * 50
    clock.now_s += 600
    assert keys.find("ES256", "one")[0].kid == "one"  # at once
    assert len(published.requests) == 1
    clock.now_s += 1
    assert await kids(keys) == ["one"]
    assert len(published.requests) == 2


async def test_unknown_key_is_asked_for_at_a_bounded_rate(published, keys_at):
    keys, clock = keys_at(published.url)
    await kids(keys)
    for number in range(1000):
        assert await kids(keys, f"forged {number}") == []
    assert len(published.requests) == 1
    clock.now_s += MIN_REFRESH_S
    published.answer = always(key_set(jwk(private_key("ES256", "new"), kid="two")))
    assert await kids(keys, "two") == ["two"]
    assert await kids(keys, "one") == []  # taken back
    assert len(published.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        always(b"", status=500),
        always(key_set()),
        always(b"<html>"),
        always(b" " * (MAX_DOCUMENT_BYTES + 1)),
        always(b"", status=302, headers={"Location": "/elsewhere"}),
    ],
)
async def test_old_keys_are_used_while_their_url_fails_but_not_for_ever(published, keys_at, answer):
    keys, clock = keys_at(published.url)
    await kids(keys)
    published.answer = answer
    clock.now_s += 600 * STALE_FACTOR
    assert await kids(keys) == ["one"]
    assert await kids(keys) == ["one"]
    assert len(published.requests) == 2
    clock.now_s += 1
    with pytest.raises(SourceDownError):
        await kids(keys)


async def test_key_set_of_the_greatest_size_is_read(published, keys_at):
    document = json.dumps(key_set(jwk(private_key("ES256"), kid="one"))).encode()
    published.answer = always(document.ljust(MAX_DOCUMENT_BYTES))
    assert await kids(keys_at(published.url)[0]) == ["one"]


async def test_url_that_does_not_answer_is_a_source_that_is_down(published, keys_at):
    published.answer = never
    keys, _ = keys_at(published.url, timeout_s=0.05)
    with pytest.raises(SourceDownError, match="within"):
        await kids(keys)
    keys, _ = keys_at("http://127.0.0.1:1/", timeout_s=2)
    with pytest.raises(SourceDownError, match="ConnectError"):
        await kids(keys)
    for _ in range(20):
        with pytest.raises(SourceDownError):
            await kids(keys)


async def test_who_gives_up_does_not_end_the_fetch_for_others(published, keys_at):
    release = asyncio.Event()
    answer = published.answer

    async def later(asked):
        await release.wait()
        return await answer(asked)

    published.answer = later
    keys, _ = keys_at(published.url)
    first, second = (asyncio.ensure_future(kids(keys)) for _ in range(2))
    await until(lambda: published.requests)
    first.cancel()
    release.set()
    assert await second == ["one"]
    assert first.cancelled()


# --- In a server


def settings(**changed):
    return {"auth": {"sources": ["jwt"], **changed.pop("auth", {})}, "jwt": changed}


def bearer(text):
    return [("Authorization", f"Bearer {text}")]


async def handshake_status(client, target="/", headers=()):
    await client.send(request(target, headers=headers))
    return (await client.read_response()).status


def only(server):
    (client,) = server.clients.values()
    return client


async def test_header_says_who_it_is_for_pages_of_every_origin(serve, connect):
    server = await serve(**settings(secret=SECRET))
    await connect(server, headers=[*bearer(token()), ("Origin", "https://elsewhere.example")])
    assert only(server).user.name == "Ani"
    assert server.counters["users_identified"] == 1


async def test_token_that_is_not_valid_makes_a_guest_or_is_refused(serve, connect, dial):
    server = await serve(**settings(secret=SECRET))
    await connect(server, headers=bearer(token("x" * 32)))
    assert only(server).user is None
    assert server.counters["tokens_refused"] == 1
    strict = await serve(**settings(secret=SECRET, auth={"required": True}))
    assert await handshake_status(await dial(strict), headers=bearer(token("x" * 32))) == 401
    assert await handshake_status(await dial(strict), headers=bearer(token())) == 101


async def test_query_parameter_is_looked_at_only_where_one_is_configured(serve, connect):
    server = await serve(**settings(secret=SECRET))
    await connect(server, f"/?token={token()}")
    assert only(server).user is None
    server = await serve(**settings(secret=SECRET, query_parameter="token"))
    await connect(server, f"/chat?x=1&token={token()}&token=a.b.c")
    assert only(server).user.id == "7"


async def test_operator_token_in_the_header_leaves_the_query_to_the_user(serve, connect):
    server = await serve(
        operator_token="an operator's token"[3:].replace(" ", "-"),
        **settings(secret=SECRET, query_parameter="token"),
    )
    headers = bearer("operator's-token")
    await connect(server, f"/?token={token()}", headers=headers)
    assert (only(server).user.id, only(server).is_operator) == ("7", True)


def test_query_is_read_as_forms_write_it():
    assert query_value("/p?a=1&t%6Fken=a%2Eb+c", "token") == "a.b c"
    assert query_value("/p?token", "token") is None
    assert query_value("/p", "token") is None
    assert query_value("/token=1?x", "token") is None


async def test_nothing_that_is_logged_has_the_token(serve, connect, dial, caplog):
    caplog.set_level(logging.DEBUG, "rakit_ws")
    server = await serve(**settings(secret=SECRET, query_parameter="token"))
    good, bad = token(), token("y" * 32)
    client = await connect(server, f"/?token={good}")
    await connect(server, f"/?token={bad}")
    await connect(server, headers=bearer(bad))
    for made in (good, bad):
        await client.ask({"event": "auth", "token": made})
    assert await handshake_status(await dial(server), f"/?token={good}&x={bad}") == 101
    assert "token refused" in caplog.text
    for made in (good, bad):
        for part in made.split(".")[1:]:
            assert part not in caplog.text


async def test_token_behind_the_handshake_makes_a_guest_a_user(serve, connect):
    server = await serve(**settings(secret=SECRET))
    client = await connect(server)
    answer = await client.ask({"event": "auth", "token": token()})
    assert answer == {"type": "ack", "id": answer["id"], "user": "7"}
    assert (only(server).user.name, only(server).user_id) == ("Ani", "7")
    assert server.clients_of("7") == [only(server)]
    refused = await client.ask({"event": "auth", "token": token("z" * 32)})
    assert (refused["type"], refused["code"]) == ("error", "forbidden")
    assert only(server).user_id == "7"  # as before


async def test_token_behind_the_handshake_renews_one_that_ends(serve, connect):
    server = await serve(**settings(secret=SECRET, leeway=0))
    now = int(time.time())
    client = await connect(server, headers=bearer(token(exp=now + 30)))
    await client.ask({"event": "auth", "token": token(exp=now + 900)})
    assert only(server).user.expires_at == now + 900


async def test_client_is_closed_when_its_token_has_expired(serve, connect):
    server = await serve(**settings(secret=SECRET, leeway=0, auth={"recheck_interval": 0.05}))
    client = await connect(server, headers=bearer(token(exp=int(time.time()) + 2)))
    assert await client.receive_close() == (4001, "the session has ended")


async def test_messages_behind_a_token_wait_for_its_keys(published, serve, connect):
    server = await serve(**settings(algorithms=["ES256"], keys_url=published.url))
    client = await connect(server)
    made = token(private_key("ES256"), "ES256", {"kid": "one"})
    await client.send({"event": "auth", "token": made, "id": 1})
    await client.send({"to": {"user": "7"}, "message": "to myself", "id": 2})
    assert (await client.receive())["user"] == "7"
    assert (await client.receive())["message"] == "to myself"


async def test_keys_that_can_not_be_had_refuse_with_503_and_leave_messages_alone(
    published, serve, connect, dial
):
    published.answer = never
    server = await serve(
        **settings(algorithms=["ES256"], keys_url=published.url, auth={"timeout": 0.2})
    )
    made = token(private_key("ES256"), "ES256")
    guest = await connect(server)
    waiting = await dial(server)
    await waiting.send(request("/", headers=bearer(made)))
    await until(lambda: published.requests)
    assert (await guest.ask({"ping": 1}))["type"] == "pong"
    assert (await waiting.read_response()).status == 503
    answer = await guest.ask({"event": "auth", "token": made})
    assert (answer["type"], answer["code"]) == ("error", "internal")
    assert server.counters["user_source_failures"] == 2


async def test_token_is_forbidden_where_no_source_takes_one(serve, connect):
    client = await connect(await serve())
    assert (await client.ask({"event": "auth", "token": token()}))["code"] == "forbidden"


async def test_source_without_its_packages_says_what_to_install(make_server, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "rakit_ws.auth.jwt")
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ConfigError, match=r"rakit-ws\[jwt\]"):
        async with make_server(**settings(secret=SECRET)):
            pass


async def test_channels_of_a_token_need_no_grant_and_a_new_token_changes_them(serve, connect):
    server = await serve(
        channels=[{"pattern": "private-*", "subscribe": "grant"}], **settings(secret=SECRET)
    )
    client = await connect(server, headers=bearer(token(channels=["private-7", "private-team-*"])))

    async def subscribes(channel):
        return (await client.ask({"event": "subscribe", "channel": channel}))["type"] == "ack"

    assert [await subscribes(f"private-{name}") for name in ("7", "team-1", "8")] == [
        True,
        True,
        False,
    ]
    await client.ask({"event": "auth", "token": token(channels=["private-8"])})
    assert await subscribes("private-8")


async def test_client_that_leaves_before_its_token_is_checked_is_nobody_afterwards(
    published, serve, connect
):
    release, answer = asyncio.Event(), published.answer

    async def later(asked):
        await release.wait()
        return await answer(asked)

    published.answer = later
    server = await serve(**settings(algorithms=["ES256"], keys_url=published.url))
    client = await connect(server)
    made = token(private_key("ES256"), "ES256", {"kid": "one"})
    await client.send({"event": "auth", "token": made, "id": 1})
    await until(lambda: published.requests)
    client.reset()
    await until(lambda: not server.clients)
    release.set()
    await until(lambda: server.counters["users_identified"] == 1)
    await asyncio.sleep(0)
    assert server.clients_of("7") == []
