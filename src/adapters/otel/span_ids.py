"""Ids that are given, where OpenTelemetry's SDK makes random ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator

from outlast.core.trace_context import TraceContext


class SpanIds(IdGenerator):
    """Gives the next span in this context the ids that are set for it, and every other one random ids."""

    def __init__(self, random_ids: IdGenerator) -> None:
        self._random = random_ids
        self._given: ContextVar[TraceContext | None] = ContextVar("given", default=None)

    @classmethod
    def of(cls, provider: TracerProvider) -> Self:
        """Return the ids of a provider's tracers, which are put in place of those that it had."""
        ids: IdGenerator = provider.id_generator
        if isinstance(ids, cls):
            return ids
        given = cls(ids)
        setattr(provider, "id_generator", given)  # noqa: B010  # The SDK types it as its random ids.
        return given

    @contextmanager
    def next(self, context: TraceContext) -> Iterator[None]:
        """Give the ids of `context` to a span that is started in the block."""
        token = self._given.set(context)
        try:
            yield
        finally:
            self._given.reset(token)

    def generate_span_id(self) -> int:
        given = self._given.get()
        return self._random.generate_span_id() if given is None else given.span_id

    def generate_trace_id(self) -> int:
        given = self._given.get()
        return self._random.generate_trace_id() if given is None else given.trace_id

    def is_trace_id_random(self) -> bool:
        return self._given.get() is None and self._random.is_trace_id_random()
