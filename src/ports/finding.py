"""Finding executions among many: a filter, and a place in the list of what it finds.

The list has the newest execution first: it goes down by `created_at`, and by id where that is equal. A place
in it is named by these two facts and not by a number, so it stays the same place when executions before it
come or go, or when the execution that it names is forgotten. So a reader who goes from page to page meets
each execution that exists all the time, and that the filter finds all the time, exactly once.
"""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from outlast.core.errors import DefinitionError
from outlast.core.json import whole_characters
from outlast.core.records import Status
from outlast.core.tags import ALL_TAGS_MAX, checked_tags
from outlast.core.waiting import WaitingKind

HALF_A_MICROSECOND = 0.5e-6
"""Descriptions round times to microseconds. So a bound finds what its description shows."""


@dataclass(frozen=True, slots=True)
class Where:
    """A filter for executions: it finds those for which all of this holds.

    Raises:
        DefinitionError: a value cannot be that of any execution.
    """

    workflow: str | None = None
    """The name of the workflow."""
    status: str | None = None
    """A `Status`, or its text. What is paused is not running here."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """It has all of these tags, and perhaps others."""
    id_prefix: str | None = None
    """Its id begins with this text."""
    created_after: datetime | None = None
    """It was created then or later; a time with a timezone."""
    created_before: datetime | None = None
    """It was created earlier than that; a time with a timezone."""
    waiting_for: str | None = None
    """A `WaitingKind`, or its text: that of the most important thing that it waits for."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", checked_tags(self.tags, most=ALL_TAGS_MAX))
        if self.status is not None:
            object.__setattr__(self, "status", _status(self.status))
        if self.waiting_for is not None:
            object.__setattr__(self, "waiting_for", _waiting_kind(self.waiting_for))
        for name in ("workflow", "id_prefix"):
            if not isinstance(text := getattr(self, name), str | None):
                raise DefinitionError(f"{name} of a filter is text, not {type(text).__name__}")
            if text is not None and text != whole_characters(text):
                raise DefinitionError(f"{name} of a filter has half of a surrogate pair: {text[:40]!r}")
        for name in ("created_after", "created_before"):
            _check_time(name, getattr(self, name))

    @property
    def first_at(self) -> float | None:
        """The earliest `created_at` that it finds, in seconds since the epoch; None without such a bound."""
        return None if self.created_after is None else self.created_after.timestamp() - HALF_A_MICROSECOND

    @property
    def end_at(self) -> float | None:
        """The time before which `created_at` is, in seconds since the epoch; None without such a bound."""
        return None if self.created_before is None else self.created_before.timestamp() - HALF_A_MICROSECOND


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        known = ", ".join(Status)
        raise DefinitionError(f"there is no status {text!r}; use one of: {known}") from None


def _waiting_kind(text: str) -> WaitingKind:
    try:
        return WaitingKind(text)
    except ValueError:
        known = ", ".join(WaitingKind)
        raise DefinitionError(f"no execution waits for {text!r}; use one of: {known}") from None


def _check_time(name: str, time: object) -> None:
    if time is None:
        return
    if not isinstance(time, datetime):
        raise DefinitionError(f"{name} of a filter is a datetime, not {type(time).__name__}")
    if time.tzinfo is None:
        raise DefinitionError(f"{name} of a filter has no timezone; write datetime(…, tzinfo=UTC)")


EVERYTHING = Where()
"""The filter that finds every execution."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list of executions: behind the one that was created then and has this id."""

    created_at: float
    id: str

    def to_text(self) -> str:
        """Return the cursor as text without meaning to others, which may stand in a URL."""
        return urlsafe_b64encode(json.dumps([self.created_at, self.id]).encode()).decode().rstrip("=")

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the cursor that `to_text` has written; raises DefinitionError for any other text."""
        try:
            created_at, id = json.loads(urlsafe_b64decode(f"{text}==="))
            if isinstance(id, str) and isinstance(created_at, float) and math.isfinite(created_at):
                id.encode()  # No id has half a character, and no store looks for one.
                return cls(created_at, id)
        except (AttributeError, RecursionError, TypeError, ValueError):
            pass
        raise DefinitionError(
            f"{str(text)[:40]!r} is not a cursor; use that of the page before, or none for the first page"
        )
