"""From an application's configuration to ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from rakit_ws.application.values import Unknown
from rakit_ws.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rakit_ws.application.application import Application
    from rakit_ws.application.values import Value

WEBSOCKET = (
    "max_buffer_size",
    "origin_required",
    "protocol_required",
    "extensions_required",
    "allowed_origins",
    "allowed_hosts",
    "supported_protocols",
    "supported_extensions",
    "ping_timeout",
    "logging_enabled",
    "logging_output",
)
"""Keys of websocket.php; they are called the same here."""

_SESSION = {
    "driver": "session_driver",
    "cookie": "session_cookie",
    "lifetime": "session_lifetime",
    "table": "session_table",
}
_SCHEMES = {"mysql": "mysql", "pgsql": "postgresql"}


class Finding(NamedTuple):
    """A setting that the application has, and the file that has it."""

    key: str
    value: Value
    where: str


def findings(application: Application, known: Mapping[str, object]) -> Iterator[Finding]:
    """
    Yield our settings that the application's configuration has, as it matters.

    `known` is what is set already: it decides what else is needed (the driver of sessions, for
    one). A value may be Unknown.

    Raises:
        ConfigError: something there is nothing for here, a driver of databases for instance.

    """
    for key in WEBSOCKET:
        value = application.value("websocket", key)
        if value is not None:
            yield Finding(key, value, application.where("websocket", key))
    url = application.value("application", "url")
    if isinstance(url, str) and (origin := _origin(url)):
        where = application.where("application", "url")
        yield Finding("auth.cookie_origins", [origin], where)
    sources = known.get("auth.sources")
    if sources is None:
        yield Finding("auth.sources", ["rakit"], "rakit.path")
    if sources is None or (isinstance(sources, (list, tuple)) and "rakit" in sources):
        yield from _rakit(application, known)


def _rakit(application: Application, known: Mapping[str, object]) -> Iterator[Finding]:
    if not known.get("rakit.key") and not known.get("rakit.key_file"):
        yield Finding("rakit.key", application.key, application.key_file)
    yield Finding("rakit.session_path", application.paths["storage"] + "sessions", "paths.php")
    for key, ours in _SESSION.items():
        value = application.value("session", key)
        if value is not None:
            where = application.where("session", key)
            yield Finding(f"rakit.{ours}", _number(value) if key == "lifetime" else value, where)
    yield from _users(application)
    if "rakit.database_url" not in known:
        yield from _database(application)
    driver = known.get("rakit.session_driver") or application.value("session", "driver")
    if driver == "redis" and "rakit.redis_url" not in known:
        where = application.where("database", "redis")
        yield Finding("rakit.redis_url", _redis_url(application), where)
    if driver == "memcached":
        yield from _memcached(application)


def _users(application: Application) -> Iterator[Finding]:
    driver = application.value("auth", "driver", default="magic")
    where = application.where("auth", "driver")
    yield Finding("rakit.auth_driver", driver, where)
    if driver == "facile":
        model = application.value("auth", "model", default="User")
        table = _table_of(model) if isinstance(model, str) else model
        yield Finding("rakit.users_table", table, application.where("auth", "model"))
    else:
        table = application.value("auth", "table", default="users")
        yield Finding("rakit.users_table", table, application.where("auth", "table"))


def _table_of(model: str) -> str:
    """Return the table of a model that names none itself: its name in lower case, as a plural."""
    name = model.rpartition("\\")[2].lower()
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + ("es" if name.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _database(application: Application) -> Iterator[Finding]:
    name = application.value("database", "default")
    where = application.where("database", "connections")
    if isinstance(name, Unknown):
        yield Finding("rakit.database_url", name, where)
        return
    connection = application.value("database", "connections", str(name))
    if isinstance(connection, dict):
        url, prefix = _url(application, connection, where), connection.get("prefix") or ""
    elif isinstance(connection, Unknown):
        url = prefix = connection
    else:
        raise ConfigError(f"{where}: no connection {name!r}, which is its default")
    yield Finding("rakit.database_url", url, where)
    yield Finding("rakit.database_prefix", prefix, where)


def _url(application: Application, connection: dict[str, Value], where: str) -> Value:
    unknown = _first_unknown(connection)
    if unknown is not None:
        return unknown
    driver = connection.get("driver")
    database = str(connection.get("database") or "")
    if driver == "sqlite":
        if database == ":memory:":
            raise ConfigError(f"{where}: the database :memory: is gone when PHP ends")
        path = f"{application.paths['storage']}database/{database}.sqlite"
        return f"sqlite:///{path}"  # SQLAlchemy decodes no name of a database
    if driver not in _SCHEMES:
        raise ConfigError(
            f"{where}: the driver {driver!r} is none that can be read: sqlite, mysql, pgsql; set "
            "rakit.database_url where there is a copy in one of these"
        )
    if driver == "pgsql" and connection.get("schema") not in (None, "", "public"):
        raise ConfigError(
            f"{where}: the schema {connection['schema']!r} is none that is looked at; let the "
            "role's search_path name it, and set rakit.database_url"
        )
    return _server_url(_SCHEMES[driver], connection, database)


def _server_url(scheme: str, connection: dict[str, Value], database: str) -> str:
    user = quote(str(connection.get("username") or ""), safe="")
    password = quote(str(connection.get("password") or ""), safe="")
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    host = str(connection.get("host") or "")
    port = str(connection.get("port") or "")
    socket = str(connection.get("unix_socket") or "")
    query = ""
    if socket:
        host, port, query = host or "localhost", "", f"?unix_socket={quote(socket, safe='')}"
    elif host.startswith("/"):  # a folder of PostgreSQL's
        host, query = "", f"?host={quote(host, safe='')}"
    if ":" in host:
        host = f"[{host}]"
    place = f"{host}:{port}" if host and port else host
    return f"{scheme}://{login}{place}/{database}{query}"


def _redis_url(application: Application) -> Value:
    server = application.value("database", "redis", "default", default={})
    if isinstance(server, Unknown):
        return server
    if not isinstance(server, dict):
        server = {}
    unknown = _first_unknown(server)
    if unknown is not None:
        return unknown
    password = server.get("password")
    login = f":{quote(str(password), safe='')}@" if password else ""
    host = str(server.get("host") or "127.0.0.1")
    host = f"[{host}]" if ":" in host else host
    return f"redis://{login}{host}:{server.get('port') or 6379}/{server.get('database') or 0}"


def _memcached(application: Application) -> Iterator[Finding]:
    key = application.value("cache", "key")
    if key is not None:
        yield Finding("rakit.cache_key", key, application.where("cache", "key"))
    servers = application.value("cache", "memcached")
    where = application.where("cache", "memcached")
    if isinstance(servers, dict):
        servers = list(servers.values())
    if isinstance(servers, list):
        addresses = [_memcached_address(server) for server in servers]
        unknown = next((each for each in addresses if isinstance(each, Unknown)), None)
        yield Finding("rakit.memcached_servers", unknown or addresses, where)
    elif isinstance(servers, Unknown):
        yield Finding("rakit.memcached_servers", servers, where)


def _memcached_address(server: Value) -> Value:
    if not isinstance(server, dict):
        return server
    unknown = _first_unknown(server)
    if unknown is not None:
        return unknown
    host = str(server.get("host") or "127.0.0.1")
    return f"unix:{host}" if host.startswith("/") else f"{host}:{server.get('port') or 11211}"


def _first_unknown(values: dict[str, Value]) -> Unknown | None:
    return next((each for each in values.values() if isinstance(each, Unknown)), None)


def _number(value: Value) -> Value:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _origin(url: str) -> str | None:
    """Return the origin of `application.url`, None if it has none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    is_web = parts.scheme in ("http", "https") and parts.netloc and "@" not in parts.netloc
    return f"{parts.scheme}://{parts.netloc}" if is_web else None
