"""The journal in one SQLite file: durable without a server, shared by the processes of one machine."""

from durable_agents.adapters.sqlite.deltas import SqliteDeltas
from durable_agents.adapters.sqlite.store import SqliteStore

__all__ = ["SqliteDeltas", "SqliteStore"]
