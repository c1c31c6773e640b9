"""The settings in the URL of a Redis backend."""

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
"""Options that are passed to redis-py unchanged."""

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
    """The settings with which a server is reached and used."""

    url: str = field(repr=False)
    """The URL for redis-py: scheme, credentials, host, port, database number and TLS options."""
    place: str
    """The URL without credentials, for error messages."""
    prefix: str = DEFAULT_PREFIX
    """The beginning of all keys and channels, before a colon. Two prefixes are two backends on one server."""
    shards: int | None = None
    """The number of parts into which executions are divided. Each shard is in one hash slot of a cluster and
    is independent of the others. The server keeps the number when a prefix is first used. None means the
    number that is kept; for a new prefix, 1 on a single server and 16 on a cluster."""
    require_durable: bool = False
    """True: a server that may lose acknowledged writes raises an error. False: its workers log a warning."""
    wait_aof: WaitAof | None = None
    """Each write waits until it is synced to the append-only file: "local" means that of the server,
    "replica" that of one replica as well."""
    keep_seconds: float = 7 * DAY_SECONDS
    """The time for which an ended execution is kept if its workflow does not say."""
    timeout_seconds: float = 5.0
    """The timeout for opening a connection, and for each reply."""
    max_connections: int = 32
    """The largest number of connections that one store opens (on a cluster, to each node)."""

    @classmethod
    def from_url(cls, url: str) -> RedisSettings:
        """Return the settings that `url` contains.

        A URL is `redis://[user:password@]host[:port][/database]`, or `rediss://…` for TLS. Options follow
        after `?`: `prefix`, `shards`, `require_durable=0|1`, `wait_aof=local|replica`, `keep_days`,
        `timeout` (seconds), `max_connections`, and the `ssl_…` options of redis-py.

        Raises:
            ConfigurationError: the URL is not valid; the message contains no credentials.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigurationError("the port in the Redis URL is not a number from 0 to 65535") from error
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ConfigurationError(
                "the Redis URL is not valid; write redis://[user:password@]host[:port][/database], or "
                "rediss://… for TLS"
            )
        database = parts.path.strip("/")
        if database and not database.isdecimal():
            raise ConfigurationError(
                f"the database in the Redis URL must be a number, as in /0, not {database!r}"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in options:
            if name not in _OPTIONS:
                raise ConfigurationError(
                    f"unknown option {name!r} in the Redis URL; known options: {', '.join(_OPTIONS)}"
                )
        tls = {name: options.pop(name) for name in _TLS_OPTIONS if name in options}
        if tls and parts.scheme == "redis":
            raise ConfigurationError(
                "the Redis URL has TLS options (ssl_…) but begins with redis://; write rediss:// for TLS"
            )
        bare = SplitResult(parts.scheme, parts.netloc, f"/{database}", urlencode(tls), "")
        return cls(
            url=bare.geturl(),
            place=f"{parts.scheme}://{parts.hostname}:{port or 6379}/{database or 0}",
            prefix=_prefix(options.get("prefix", DEFAULT_PREFIX)),
            shards=_whole("shards", options["shards"], SHARDS_MAX) if "shards" in options else None,
            require_durable=_boolean("require_durable", options.get("require_durable", "0")),
            wait_aof=_wait_aof(options.get("wait_aof")),
            keep_seconds=_positive("keep_days", options.get("keep_days", "7")) * DAY_SECONDS,
            timeout_seconds=_positive("timeout", options.get("timeout", "5")),
            max_connections=_whole("max_connections", options.get("max_connections", "32"), 10_000),
        )


def _prefix(text: str) -> str:
    # Redis would take braces for a hash tag, and then put every shard into the same slot.
    if not text or not text.isprintable() or any(character in "{}*?[]\\ " for character in text):
        raise ConfigurationError(
            f"option prefix={text!r} in the Redis URL is not valid; use printable characters except spaces, "
            "braces, brackets, '*', '?' and backslashes"
        )
    return text


def _wait_aof(text: str | None) -> WaitAof | None:
    if text is None:
        return None
    choice: WaitAof
    for choice in get_args(WaitAof):
        if text == choice:
            return choice
    raise _invalid("wait_aof", text, get_args(WaitAof))


def _boolean(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise _invalid(name, text, ("0", "1"))
    return text == "1"


def _invalid(name: str, text: str, choices: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError(
        f"option {name}={text} in the Redis URL is not valid; choose {' or '.join(choices)}"
    )


def _whole(name: str, text: str, largest: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= largest:
        raise ConfigurationError(
            f"option {name}={text} in the Redis URL must be a whole number from 1 to {largest}"
        )
    return int(text)


def _positive(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigurationError(f"option {name}={text} in the Redis URL must be a number above 0")
    return number
