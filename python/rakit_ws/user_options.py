"""The tables `[auth]` and `[rakit]`: where users come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rakit_ws.options import (
    Table,
    boolean,
    choice,
    integer,
    is_line,
    is_origin,
    names,
    option,
    seconds,
    string,
)

SOURCES = ("rakit", "jwt", "http", "function")


@dataclass(frozen=True, kw_only=True)
class Auth(Table):
    """The table `[auth]`: who is asked for the user of a handshake, and what if nobody knows."""

    sources: tuple[str, ...] = option(
        "who is asked for the user of a handshake, in this order, until one knows: `rakit` (the "
        "session cookie of a Rakit application), `jwt` (a signed token), `http` (a URL "
        "of the application), `function` (`@server.authenticate`)",
        names(f"sources: {', '.join(SOURCES)}", SOURCES.__contains__),
        default=(),
        zero="everybody is a guest, unless there is a function: it is asked last if not named",
        cost="what each of them says; nothing for a handshake without a cookie",
    )
    required: bool = option(
        "refuse handshakes of guests (401)",
        boolean(),
        default=False,
    )
    on_failure: Literal["refuse", "guest"] = option(
        "where a source fails and no other knows the user: `refuse` the handshake (503), or take "
        "it for a `guest`",
        choice("refuse", "guest"),
        default="refuse",
        precedent="a user who is shown as a guest without a word is worse than one who tries again",
    )
    cookie_origins: tuple[str, ...] = option(
        "origins whose pages may act for the user of a cookie, beside the host that is asked and "
        "`allowed_origins`",
        names(
            'origins: scheme://host[:port] without a path, "*." only in front of the host',
            is_origin,
        ),
        default=(),
        zero="no others",
        cost="these pages may do what the user may",
        precedent="that of `application.url`, where the application is read",
    )
    timeout: float = option(
        "time for each source to answer",
        seconds(0.01),
        default=4.0,
        unit="seconds",
        zero="not allowed",
        cost="handshakes wait this long for a source that hangs, others do not",
        reached="the source counts as failed; with `handshake_timeout` too short for all sources, "
        "each has its share of nine tenths of that",
        precedent="below half of handshake_timeout, so that two sources fit in it",
    )
    recheck_interval: float = option(
        "how often the source of each connected user is asked again whether that is still so",
        seconds(0, 86_400),
        default=60.0,
        unit="seconds",
        zero="never: whoever is in stays in, though logged out",
        cost="a look-up for each user in this time, spread evenly; those due together share one. "
        "At most 2,000 a second: with more it takes longer",
        reached="a session that is gone, expired or another user's is closed with 4001; where the "
        "source is down everybody stays",
        precedent="Centrifugo asks its proxy about a connection whenever its token ends, by the minute "
        "in its examples",
    )


@dataclass(frozen=True, kw_only=True)
class Rakit(Table):
    """The table `[rakit]`: where the Rakit application keeps its key, sessions and users."""

    path: str = option(
        "the folder of the application: what its `key.php` and `application/config` say holds where "
        "nothing else is set here, and users come from `rakit`",
        string("empty, or the path of a folder", lambda text: text == "" or is_line(text)),
        default="",
        zero="what is needed must be set one by one",
        cost="a start and a reload run PHP, about 0.1 s",
    )
    environment: str = option(
        "the environment of the application, as the folder of `application/config` whose files "
        "override the others",
        string(
            "empty, or the name of a folder",
            lambda text: re.fullmatch(r"[A-Za-z0-9_-]*", text) is not None,
        ),
        default="",
        zero="what RAKIT_ENV says, or what paths.php has for `application.url` or this machine, or "
        "`local`, where that has files and the application no URL",
    )
    php: str = option(
        "the program that evaluates the application's configuration: files that return arrays, and "
        "nothing else of it",
        string("empty, or the name or path of a program", lambda text: text == "" or is_line(text)),
        default="php",
        zero="what is written out in the files is read without PHP; so it is where there is none",
        cost="the files are run as the server's user",
        reached="after 5 s the configuration is refused",
    )
    key: str = option(
        "the application's key, as the text that `key.php` returns; never printed nor logged",
        string(
            "36 characters: hexadecimal digits in groups of 8-4-4-4-12",
            lambda text: text == "" or is_key(text),
        ),
        default="",
        zero="it is read from `key_file`",
        secret=True,
    )
    key_file: str = option(
        "the file with the application's key",
        string("empty, or the path of a file", lambda text: text == "" or is_line(text)),
        default="",
        zero="`key.php` in `rakit.path`",
    )
    session_driver: Literal["file", "cookie", "database", "redis", "memcached", "apc"] = option(
        "where sessions are: `file`, `cookie`, `database`, `redis` or `memcached`; `apc` lives "
        "inside PHP, and is refused",
        choice("file", "cookie", "database", "redis", "memcached", "apc"),
        default="file",
        cost="a look-up for each handshake with a session cookie; many at once share one",
        precedent="`session.driver` of the application",
    )
    session_cookie: str = option(
        "the name of the session cookie",
        string("a cookie's name", lambda text: re.fullmatch(r"[!#-+.-:<>-~-]+", text) is not None),
        default="rakit_session",
        zero="not allowed",
        precedent="`session.cookie` of the application",
    )
    session_lifetime: int = option(
        "how long a session lives without a request",
        integer(0, 60 * 24 * 366 * 10),
        default=60,
        unit="minutes",
        zero="a session ends with the second in which it was used last",
        cost="none; what a stolen cookie is worth",
        reached="its user is a guest, or who the remember cookie says",
        precedent="`session.lifetime` of the application",
    )
    extend_session: bool = option(
        "let an open socket count as a request, so that the session does not expire meanwhile; with "
        "the driver `database` alone",
        boolean(),
        default=False,
        cost="the table of sessions is written to: `last_activity`, once in a fourth of the lifetime",
        precedent="off: who leaves a page open over night is not at work",
    )
    session_path: str = option(
        "the folder of the driver `file`",
        string("empty, or the path of a folder", lambda text: text == "" or is_line(text)),
        default="",
        zero="`storage/sessions` in `rakit.path`",
    )
    session_table: str = option(
        "the table of the driver `database`, without its prefix",
        string("a table's name", is_line),
        default="sessions",
        zero="not allowed",
        precedent="`session.table` of the application",
    )
    remember: bool = option(
        "take users from the remember cookie, where the session has none",
        boolean(),
        default=True,
        cost="such a cookie has no date, and nothing can revoke it before the key is changed",
        precedent="the framework takes it too",
    )
    auth_driver: Literal["magic", "facile"] = option(
        "the application's way to keep users: `magic` or `facile`",
        choice("magic", "facile"),
        default="magic",
        precedent="`auth.driver` of the application",
    )
    database_url: str = option(
        "the application's database: `sqlite:///FILE`, `mysql://USER:PASSWORD@HOST/NAME` or "
        "`postgresql://USER:PASSWORD@HOST/NAME`; never printed nor logged",
        string(
            "empty, or a URL that begins with sqlite:, mysql:, mariadb: or postgresql:",
            lambda text: text == "" or is_database_url(text),
        ),
        default="",
        zero="no user can be looked up: with the source `rakit` it must be set",
        secret=True,
    )
    database_prefix: str = option(
        "what the names of all tables begin with",
        string("empty, or the beginning of a name", lambda text: text == "" or is_line(text)),
        default="",
        zero="no prefix",
        precedent="`prefix` of the application's connection",
    )
    database_connections: int = option(
        "most connections to the database, and most look-ups at a time in a store of sessions",
        integer(1, 100),
        default=4,
        unit="connections",
        zero="not allowed",
        cost="one descriptor for each, and one more look-up that a stalled store can hold up",
        reached="handshakes share the next look-up",
        precedent="half of what SQLAlchemy and HikariCP (5 to 10) have: look-ups are shared here",
    )
    redis_url: str = option(
        "the server of the driver `redis`: `redis://[:PASSWORD@]HOST[:PORT][/DATABASE]`, "
        "`rediss://…` or `unix://PATH`; never printed nor logged",
        string(
            "empty, or a URL that begins with redis://, rediss:// or unix://",
            lambda text: (
                text == ""
                or (is_line(text) and text.startswith(("redis://", "rediss://", "unix://")))
            ),
        ),
        default="",
        zero="redis://127.0.0.1:6379/0",
        secret=True,
    )
    memcached_servers: tuple[str, ...] = option(
        "the servers of the driver `memcached`; all are asked, as any of them may have a session",
        names("servers as HOST, HOST:PORT or unix:PATH", is_line),
        default=("127.0.0.1:11211",),
        zero="not allowed with the driver `memcached`",
    )
    cache_key: str = option(
        "what the keys of the driver `memcached` begin with",
        string(
            "up to 200 visible ASCII characters without blanks",
            lambda text: re.fullmatch(r"[!-~]{0,200}", text) is not None,
        ),
        default="rakit",
        zero="no beginning but a dot, as the application would have it",
        precedent="`cache.key` of the application",
    )
    users_table: str = option(
        "the table of users, without its prefix",
        string("a table's name", is_line),
        default="users",
        zero="not allowed",
        precedent="`auth.table` of the application; with `facile` the table of the model",
    )
    id_column: str = option(
        "the column with the user's number",
        string("a column's name", is_line),
        default="id",
        zero="not allowed",
    )
    name_column: str = option(
        "the column with the name to show",
        string("empty, or a column's name", lambda text: text == "" or is_line(text)),
        default="name",
        zero="nobody has a name",
    )
    email_column: str = option(
        "the column with the e-mail address",
        string("empty, or a column's name", lambda text: text == "" or is_line(text)),
        default="email",
        zero="nobody has an e-mail address",
    )
    user_cache: float = option(
        "how long a user's row is kept for further handshakes of the same user",
        seconds(0, 3600),
        default=5.0,
        unit="seconds",
        zero="it is looked up for each handshake",
        cost="a change of name shows this much later; up to 10,000 rows in memory",
        reached="the row is looked up again",
        precedent="short enough that nobody notices, long enough for all tabs of a browser",
    )


def is_key(text: str) -> bool:
    """Whether `text` is an application's key, in either letter case."""
    return re.fullmatch(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", text) is not None


def is_database_url(text: str) -> bool:
    """Whether `text` names a database of a kind that can be read."""
    pattern = r"(?:sqlite|mysql|mariadb|postgresql)(?:\+[a-z0-9]+)?:"
    return is_line(text) and re.match(pattern, text) is not None
