"""What the URL of a Redis backend says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, get_args
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from outlast.core.errors import ConfigurationError

WaitAof = Literal["local", "replica"]

DAY_SECONDS = 24 * 60 * 60.0

DEFAULT_PREFIX = "outlast"

SHARDS_MAX = 1024

_TLS_OPTIONS: Final[tuple[str, ...]] = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
"""Handed on to redis-py as they are."""

_OPTIONS: Final[tuple[str, ...]] = (
    "prefix",
    "shards",
    "require_durable",
    "wait_aof",
    "keep_days",
    "timeout",
    "max_connections",
    *_TLS_OPTIONS,
)


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How to reach a server, and how to use it."""

    url: str = field(repr=False)
    """For redis-py: scheme, credentials, host, port, database number and TLS options."""
    place: str
    """The same without credentials, for messages."""
    prefix: str = DEFAULT_PREFIX
    """What all keys and channels begin with, before a colon. Two prefixes are two backends on one server."""
    shards: int | None = None
    """In how many parts executions are divided: each is in one hash slot of a cluster, and does not need the
    others. It is written down when a prefix is first used; None takes what is written, else 1 on a single
    server and 16 on a cluster."""
    require_durable: bool = False
    """Whether a server that may lose what it has acknowledged is refused, not only warned about."""
    wait_aof: WaitAof | None = None
    """Whether each write waits until it is synced to the append-only file: "local" of the server itself,
    "replica" of one replica as well."""
    keep_seconds: float = 7 * DAY_SECONDS
    """How long an ended execution is kept whose workflow does not say."""
    timeout_seconds: float = 5.0
    """How long a connection may take to open, and a reply to come."""
    max_connections: int = 32
    """How many connections one store opens at most (for each node of a cluster)."""

    @classmethod
    def from_url(cls, url: str) -> RedisSettings:
        """Return what `url` says.

        It is `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS, and then the options
        `prefix`, `shards`, `require_durable=0|1`, `wait_aof=local|replica`, `keep_days`, `timeout` (seconds),
        `max_connections`, and redis-py's `ssl_…` options.

        Raises:
            ConfigurationError: it makes no sense; the message repeats no credentials.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigurationError("the port in the Redis URL is not a number from 0 to 65535") from error
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ConfigurationError(
                "a Redis URL is redis://[user:password@]host[:port][/database], or rediss://… for TLS"
            )
        database = parts.path.strip("/")
        if database and not database.isdecimal():
            raise ConfigurationError(
                f"the database in the Redis URL is a number, as in /0; it is {database!r}"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in options:
            if name not in _OPTIONS:
                raise ConfigurationError(
                    f"unknown option {name!r} in the Redis URL; it can have {', '.join(_OPTIONS)}"
                )
        tls = {name: options.pop(name) for name in _TLS_OPTIONS if name in options}
        if tls and parts.scheme == "redis":
            raise ConfigurationError("the Redis URL has TLS options but no TLS: write rediss://")
        bare = SplitResult(parts.scheme, parts.netloc, f"/{database}", urlencode(tls), "")
        return cls(
            url=bare.geturl(),
            place=f"{parts.scheme}://{parts.hostname}:{port or 6379}/{database or 0}",
            prefix=_prefix(options.get("prefix", DEFAULT_PREFIX)),
            shards=_whole("shards", options["shards"], SHARDS_MAX) if "shards" in options else None,
            require_durable=_yes("require_durable", options.get("require_durable", "0")),
            wait_aof=_wait_aof(options.get("wait_aof")),
            keep_seconds=_positive("keep_days", options.get("keep_days", "7")) * DAY_SECONDS,
            timeout_seconds=_positive("timeout", options.get("timeout", "5")),
            max_connections=_whole("max_connections", options.get("max_connections", "32"), 10_000),
        )


def _prefix(text: str) -> str:
    # Braces would be taken for a hash tag, and then every shard would be in one slot.
    if not text or not text.isprintable() or any(character in "{}*?[]\\ " for character in text):
        raise ConfigurationError(
            f"option prefix={text!r} in the Redis URL: use printable characters without blanks, braces, "
            "brackets, '*', '?' and backslashes"
        )
    return text


def _wait_aof(text: str | None) -> WaitAof | None:
    if text is None:
        return None
    choice: WaitAof
    for choice in get_args(WaitAof):
        if text == choice:
            return choice
    raise _no_choice("wait_aof", text, get_args(WaitAof))


def _yes(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise _no_choice(name, text, ("0", "1"))
    return text == "1"


def _no_choice(name: str, text: str, choices: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError(f"option {name}={text} in the Redis URL: choose {' or '.join(choices)}")


def _whole(name: str, text: str, largest: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= largest:
        raise ConfigurationError(
            f"option {name}={text} in the Redis URL is a whole number from 1 to {largest}"
        )
    return int(text)


def _positive(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigurationError(f"option {name}={text} in the Redis URL is a number above 0")
    return number
