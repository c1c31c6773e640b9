"""The journal in one SQLite file. It needs no server; all processes of one machine can share the file."""

from outlast.adapters.sqlite.deltas import SqliteDeltas
from outlast.adapters.sqlite.store import SqliteStore

__all__ = ["SqliteDeltas", "SqliteStore"]
