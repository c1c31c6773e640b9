"""Executions in a JSON file: `outlast.connect("json:runs.json")`."""

from pathlib import Path

import outlast
from outlast_json.deltas import JsonDeltas
from outlast_json.store import JsonStore


def connect(url: str) -> outlast.Backend:
    """Return the backend on the file that the URL names."""
    path = Path(url.removeprefix("json:"))
    clock = outlast.SystemClock()
    return outlast.journaled_backend(JsonStore(path, clock), clock, JsonDeltas(path, clock))
