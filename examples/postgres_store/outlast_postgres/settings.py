"""The URL of a store, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from outlast.core.errors import ConfigurationError

DEFAULT_SCHEMA = "outlast"

# A name that means the same with and without quotes, so that it can stand in `search_path`. The channels that
# are named after it have at most 63 bytes, as every identifier.
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a store is."""

    dsn: str = field(repr=False)
    """The URL for the driver. It may hold a password, so nothing prints it."""
    schema: str
    """The schema with the tables. Two stores in two schemas of one database have nothing in common."""
    place: str
    """The place as errors name it: without user and password."""
    timeout_seconds: float = 30.0
    """The longest time that one statement, or one connection, may take."""

    @classmethod
    def of(cls, url: str) -> Settings:
        """Return the settings in a URL; all but `schema` in its query is for the driver.

        Raises:
            ConfigurationError: the URL cannot be used. The error quotes nothing that may be a password.
        """
        try:
            parts = urlsplit(url)
            # A password with `/`, `?` or `#` in it ends the part before the host too early. Then what is
            # taken for the port is a piece of the password.
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ConfigurationError(
                "the URL of the PostgreSQL store has no valid host and port; write "
                "postgresql://user:password@host:port/database, and %-escapes for special characters in the "
                "password"
            ) from None
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema = query.pop("schema", DEFAULT_SCHEMA)
        if not _SCHEMA.fullmatch(schema):
            raise ConfigurationError(
                f"{schema[:60]!r} cannot be the schema of a store; use up to 40 small letters, digits and _"
            )
        where = f"{host or query.get('host', 'the default host')}:{port or query.get('port', 5432)}"
        return cls(
            dsn=parts._replace(query=urlencode(query)).geturl(),
            schema=schema,
            place=f"PostgreSQL at {where}{parts.path or '/'}",
        )
