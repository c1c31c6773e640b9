"""The place of a span in a trace, as the W3C's Trace Context writes it into one line of text."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)


class TraceContext(NamedTuple):
    """A span's ids: that of its trace, of 16 bytes, and its own, of 8 bytes; none of them is zero."""

    trace_id: int
    span_id: int
    sampled: bool = True
    """False if the trace is not recorded."""

    @classmethod
    def of(cls, traceparent: str) -> Self | None:
        """Return what a `traceparent` says; None if it is not one.

        Source: Trace Context, W3C, section 3.2; a higher version is read as far as this one goes.
        """
        found = _TRACEPARENT.match(traceparent)
        if found is None:
            return None
        context = cls(int(found["trace"], 16), int(found["span"], 16), bool(int(found["flags"], 16) & 1))
        return context if context.trace_id and context.span_id else None

    @property
    def traceparent(self) -> str:
        """The context as text."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"
