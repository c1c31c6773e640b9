"""Executions in PostgreSQL: `outlast.connect("postgresql://user:password@host/database?schema=outlast")`."""

import outlast
from outlast_postgres.clock import ServerClock
from outlast_postgres.deltas import PostgresDeltas
from outlast_postgres.settings import Settings
from outlast_postgres.store import PostgresStore

__all__ = ["PostgresDeltas", "PostgresStore", "ServerClock", "Settings", "connect"]


def connect(url: str) -> outlast.Backend:
    """Return the backend in the database and the schema that the URL names.

    Raises:
        ConfigurationError: the URL cannot be used; no error shows its password.
    """
    settings = Settings.of(url)
    clock = ServerClock()
    store, deltas = PostgresStore(settings, clock), PostgresDeltas(settings, clock)
    return outlast.journaled_backend(store, clock, deltas)
