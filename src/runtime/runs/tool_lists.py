"""The tools of the sources of a run: listed once an execution, and journaled.

So a replay needs no source and no cache, and every run of an execution works with the same tools. A source
that is not required and cannot be listed is missing for the run; the instructions of its agents say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outlast.core.agents import ToolSpec
from outlast.core.errors import OutlastError
from outlast.core.records import StepKind
from outlast.core.retry import RetryPolicy
from outlast.ports.definitions import ActivityOptions
from outlast.ports.durability.steps import ListTools, Step, StepContext
from outlast.ports.durability.workflow_context import current_context
from outlast.ports.tools import ToolList, ToolSource

logger = logging.getLogger("outlast.tools")

LOGGED_MAX = 100
"""The number of tools that are named in the log as left out."""
REQUIRED_OPTIONS = ActivityOptions(start_to_close_timeout=300.0, effect="read")
OPTIONAL_OPTIONS = ActivityOptions(
    start_to_close_timeout=300.0, retry=RetryPolicy(max_attempts=2), effect="read"
)
"""A run does not wait long for what it can do without."""


@dataclass(frozen=True, slots=True)
class ToolLists:
    """The tools of a run's sources, by source name; a missing source has none."""

    tools: Mapping[str, Sequence[ToolSpec]]
    missing: frozenset[str]


@dataclass(slots=True)
class _AskedSource:
    """A source that an execution has asked, or is asking."""

    source: ToolSource
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tools: Sequence[ToolSpec] | None = None


async def tool_lists_of(sources: Mapping[str, ToolSource], context: StepContext) -> ToolLists:
    """Return the tools of the sources. A source is asked unless this execution has its list already.

    Raises:
        OutlastError: a source that is required cannot be listed.
    """
    workflow = current_context.get()
    known: dict[str, _AskedSource] = {} if workflow is None else workflow.state.setdefault(ToolLists, {})
    tools: dict[str, Sequence[ToolSpec]] = {}
    missing: set[str] = set()
    for name, source in sources.items():
        asked = known.get(name)
        if asked is None or asked.source != source:
            asked = known[name] = _AskedSource(source)
        async with asked.lock:
            if asked.tools is None:
                asked.tools = await _listed(name, source, context)
        if asked.tools is None:
            missing.add(name)
        tools[name] = asked.tools or ()
    return ToolLists(tools, frozenset(missing))


def log_left_out(sentences: Sequence[str]) -> None:
    """Log the tools that agents do not have though a source lists them: once, and not in a replay."""
    workflow = current_context.get()
    known: set[str] = set() if workflow is None else workflow.state.setdefault(log_left_out, set())
    new = [sentence for sentence in sentences if sentence not in known]
    known.update(new)
    if workflow is not None and workflow.is_replaying:
        return
    for sentence in new[:LOGGED_MAX]:
        logger.warning("%s", sentence)
    if len(new) > LOGGED_MAX:
        logger.warning("%d more tools of sources are left out", len(new) - LOGGED_MAX)


async def _listed(name: str, source: ToolSource, context: StepContext) -> Sequence[ToolSpec] | None:
    step = Step(
        key=context.next_key(),
        kind=StepKind.ACTIVITY,
        name=f"list tools of {name}",
        call=ListTools(source),
        options=REQUIRED_OPTIONS if source.required else OPTIONAL_OPTIONS,
    )
    try:
        return ToolList.model_validate(await context.run_step(step)).tools
    except OutlastError:
        if source.required:
            raise
        return None
