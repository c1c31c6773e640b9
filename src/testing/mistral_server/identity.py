"""Identifiers and times. They are the same each time the same program runs."""

from __future__ import annotations

import hashlib
import string
from collections import Counter
from datetime import UTC, datetime, timedelta

_ALPHANUMERICS = string.ascii_letters + string.digits
_EPOCH = datetime(2026, 8, 20, 9, 0, 0, tzinfo=UTC)
_TICK = timedelta(milliseconds=100)


class Identifiers:
    """Makes identifiers in the documented forms, numbered in each scope.

    A scope is the conversation or agent that an identifier belongs to. So conversations that run at the same
    time do not change each other's identifiers. Servers with different seeds make different identifiers.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._counts: Counter[str] = Counter()

    def new(self, prefix: str, scope: str = "") -> str:
        """Return `prefix` and 32 hexadecimal digits."""
        return f"{prefix}_{self._digest(prefix, scope).hex()[:32]}"

    def tool_call(self, scope: str) -> str:
        """Return nine letters and digits."""
        return "".join(_ALPHANUMERICS[byte % len(_ALPHANUMERICS)] for byte in self._digest("call", scope)[:9])

    def completion(self) -> str:
        """Return 32 hexadecimal digits."""
        return self._digest("completion", "").hex()[:32]

    def _digest(self, kind: str, scope: str) -> bytes:
        name = f"{self._seed}/{scope}/{kind}"
        self._counts[name] += 1
        return hashlib.sha256(f"{name}/{self._counts[name]}".encode()).digest()


class StandInClock:
    """A clock that advances by 0.1 s at each reading, so that times show the order of events."""

    def __init__(self) -> None:
        self._ticks = 0

    def now(self) -> str:
        """Return the next time in ISO 8601."""
        self._ticks += 1
        return (_EPOCH + self._ticks * _TICK).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def seconds(self) -> int:
        """Return the next time in whole seconds since the epoch."""
        self._ticks += 1
        return int((_EPOCH + self._ticks * _TICK).timestamp())
