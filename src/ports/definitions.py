"""What users define: activities and workflows, as data that every backend can read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from outlast.core.errors import DefinitionError
from outlast.core.json import JSON
from outlast.core.retry import RetryPolicy
from outlast.ports.journal import ID_BYTES_MAX, is_id
from outlast.ports.tools import Effect


class Signature(Protocol):
    """How a callable's arguments and result go to JSON and back, and what a model is told of it."""

    @property
    def name(self) -> str: ...

    @property
    def python(self) -> inspect.Signature: ...

    @property
    def description(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, JSON]: ...

    def bind(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]: ...

    def dump_arguments(self, *args: Any, **kwargs: Any) -> dict[str, JSON]: ...

    def load_arguments(self, arguments: Mapping[str, JSON]) -> tuple[tuple[Any, ...], dict[str, Any]]: ...

    def dump_result(self, value: Any) -> JSON: ...

    def load_result(self, value: JSON) -> Any: ...


Approval = bool | Callable[[Mapping[str, Any]], bool]
"""Whether a person must allow each call that a model makes; or what says so of a call by its arguments."""


@dataclass(frozen=True, slots=True)
class ActivityOptions:
    """How an activity's attempts are run. Times are in seconds."""

    start_to_close_timeout: float = 300.0
    heartbeat_timeout: float | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    effect: Effect = "idempotent"
    requires_approval: Approval = False
    local: bool = False
    """Whether it may be run where the workflow runs, and recorded with what follows, if that is cheaper."""


@dataclass(frozen=True, slots=True)
class ActivityDefinition:
    """A function whose result is journaled."""

    name: str
    fn: Callable[..., Any]
    is_async: bool
    signature: Signature
    options: ActivityOptions

    def __post_init__(self) -> None:
        _check_name("an activity", self.name)


@dataclass(frozen=True, slots=True)
class HandlerDefinition:
    """A signal, query or update handler of a workflow; methods are looked up on the workflow's instance."""

    name: str
    method: str
    signature: Signature
    validator: str | None = None
    """Of an update: the method that raises if it is not to be accepted."""

    def __post_init__(self) -> None:
        _check_name("a handler", self.name)


@dataclass(frozen=True, slots=True)
class WorkflowDefinition:
    """A class whose entrypoint is run durably."""

    name: str
    cls: type[Any]
    entrypoint: str
    signature: Signature
    signals: Mapping[str, HandlerDefinition] = field(default_factory=dict)
    queries: Mapping[str, HandlerDefinition] = field(default_factory=dict)
    updates: Mapping[str, HandlerDefinition] = field(default_factory=dict)
    keep_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_name("a workflow", self.name)


def _check_name(what: str, name: str) -> None:
    """Raise DefinitionError unless every backend can know a definition by `name`."""
    if not is_id(name):
        raise DefinitionError(
            f"{name!r} cannot be the name of {what}: give it 1 to {ID_BYTES_MAX} bytes of text without "
            "control characters"
        )
