"""The journal in one SQLite file: durable without a server, shared by the processes of one machine."""

from outlast.adapters.sqlite.deltas import SqliteDeltas
from outlast.adapters.sqlite.store import SqliteStore

__all__ = ["SqliteDeltas", "SqliteStore"]
