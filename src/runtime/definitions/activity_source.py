"""A tool source over plain activities: the smallest adapter of the tools port, without a connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.core.agents import ToolSpec
from outlast.core.chunks import (
    Content,
    DocumentURLChunk,
    ImageURLChunk,
    TextChunk,
    ThinkingChunk,
    ToolFileChunk,
    ToolReferenceChunk,
    UnknownChunk,
    chunks,
)
from outlast.core.errors import DefinitionError, InvalidArguments, ToolError, UnknownTool
from outlast.core.failure import is_among, named_message_of
from outlast.core.json import JSON, encode
from outlast.ports.definitions import ActivityDefinition
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolOutput, ToolSource, misfit
from outlast.runtime.definitions.activity import Activity
from outlast.runtime.isolation.exits import contained

CHUNKS = (
    TextChunk,
    ImageURLChunk,
    DocumentURLChunk,
    ToolFileChunk,
    ToolReferenceChunk,
    ThinkingChunk,
    UnknownChunk,
)


class ActivitySource(ToolSource):
    """Activities as the tools of a source. It is a value: equal to another of the same name and activities.

    A call is one attempt at its activity. An exception of the activity counts as follows:

    - A `ToolError`, or one that the activity's retry policy calls non-retryable, is an error of the tool
      itself (T2): the output holds it, with `is_error`, and the call is not tried again.
    - Any other exception is a failed attempt, and is raised unchanged (T3): a retry may succeed.

    Three options of an activity count here: its effect, its non-retryable exceptions and `requires_approval`
    (a function counts as True: an agent's own `requires_approval` can be finer). Its timeouts and its number
    of attempts do not count: all sources are called alike. Put an activity that needs its own timeouts or
    attempts directly among the agent's tools.
    """

    def __init__(self, *activities: Activity[..., Any], name: str = "activities") -> None:
        """Keep the activities.

        Raises:
            DefinitionError: one of them is not an activity, or two have the same name.
        """
        for one in activities:
            if not isinstance(one, Activity):
                raise DefinitionError(
                    f"tool source {name!r} has something that is not an activity: {type(one).__name__}; "
                    "define it with @outlast.activity"
                )
        names = Counter(one.definition.name for one in activities)
        twice = sorted(one for one, count in names.items() if count > 1)
        if twice:
            raise DefinitionError(
                f"tool source {name!r} has two activities called {twice[0]!r}; rename one of them"
            )
        self._name = name
        self._activities = {one.definition.name: one for one in activities}

    @property
    def name(self) -> str:
        return self._name

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        """Return the activities as tools, sorted by name.

        Raises:
            DefinitionError: a type hint of an activity cannot be resolved or has no JSON schema.
        """
        return [_spec(one.definition) for _, one in sorted(self._activities.items())]

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        activity = self._activities.get(tool)
        if activity is None:
            raise UnknownTool(tool, self._name, sorted(self._activities))
        definition = activity.definition
        spec = _spec(definition)
        try:
            args, kwargs = definition.signature.bind(arguments).python
        except InvalidArguments as error:
            raise misfit(spec, error.faults, known) from error
        output = await self._output_of(activity, args, kwargs)
        return output if known in (None, spec.fingerprint) else output.with_(changed=spec)

    async def _output_of(
        self, activity: Activity[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> ToolOutput:
        definition = activity.definition
        try:
            with contained():
                value = await activity(*args, **kwargs)
        except Exception as error:
            if not _is_reported(error, definition):
                raise
            message = str(error) if isinstance(error, ToolError) else named_message_of(error)
            return ToolOutput(content=message, is_error=True)
        return _output(value, definition.signature.dump_result(value))

    def effect(self, tool: str) -> Effect:
        activity = self._activities.get(tool)
        return "once" if activity is None else activity.definition.options.effect

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActivitySource):
            return NotImplemented
        return (self._name, self._activities) == (other._name, other._activities)

    def __hash__(self) -> int:
        return hash((self._name, frozenset(self._activities)))

    def __repr__(self) -> str:
        return f"<tool source {self._name}: {', '.join(sorted(self._activities))}>"


def _spec(definition: ActivityDefinition) -> ToolSpec:
    signature = definition.signature
    return ToolSpec(
        name=definition.name,
        description=signature.description,
        parameters=dict(signature.parameters),
        requires_approval=definition.options.requires_approval is not False,
    )


def _is_reported(error: Exception, definition: ActivityDefinition) -> bool:
    return isinstance(error, ToolError) or is_among(error, definition.options.retry.non_retryable)


def _output(value: object, written: JSON) -> ToolOutput:
    """Return the content that a model gets for a result: text and chunks unchanged, anything else as JSON."""
    if isinstance(written, str):
        return ToolOutput(content=written)
    if isinstance(value, CHUNKS):
        return ToolOutput(content=_content([written]))
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, CHUNKS) for one in value):
        return ToolOutput(content=_content(written))
    return ToolOutput(content=encode(written).decode(), structured=written)


def _content(written: JSON) -> Content:
    return chunks.validate_python(written)
