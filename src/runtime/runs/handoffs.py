"""Handoffs of a run: each is emitted, and decides which part of the conversation the next agent sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outlast.core.agent_events import AnnounceHandoff, CallModel
from outlast.core.entries import Entry
from outlast.core.events import HandedOffData
from outlast.core.input_filters import shown_to_next
from outlast.ports.durability.steps import StepContext
from outlast.ports.llm import Session
from outlast.runtime.definitions.agent_binding import BoundAgents
from outlast.runtime.definitions.run_context import with_context
from outlast.runtime.runs.conversation import Conversation, View
from outlast.runtime.runs.tool_calls import Here


class Handoffs:
    """The handoffs of one run, known by its key."""

    def __init__(self, agents: BoundAgents, context: StepContext, run: str, here: Here) -> None:
        self._agents = agents
        self._context = context
        self._run = run
        self._here = here
        self._filters: Sequence[Any] | None = None
        """The input filter of the handoff that was just made: () if it has none; None without a handoff."""

    def begin(self, conversation: Conversation, agent: str, session: Session) -> None:
        """Let the agent that starts see the whole conversation, unless it was the last to see its part."""
        if conversation.view is not None and conversation.view.agent != agent:
            conversation.view = None
            conversation.handle = session.anew(conversation.handle)

    def announce(self, effect: AnnounceHandoff) -> None:
        """Emit a handoff, and remember its input filter for the next call of the model."""
        self._filters = self._agents.input_filters.get((effect.previous, effect.next), ())
        self._context.emit(
            HandedOffData(
                run=self._run,
                turn=effect.turn,
                from_agent=effect.previous,
                to_agent=effect.next,
                filtered=True if self._filters else None,
            )
        )

    def seen_in(self, conversation: Conversation, call: CallModel) -> tuple[tuple[Entry, ...], View | None]:
        """Return the entries that are new to the model, and the view to which they belong; None: the whole.

        An agent that was just handed a part of the conversation gets that as new entries. An agent that is
        handed the whole gets what others were not shown, too.

        Raises:
            DefinitionError: an input filter failed, or returned something that is not entries.
        """
        filters, self._filters = self._filters, None
        if filters is None:
            return call.entries, conversation.view
        if not filters:
            return call.entries, None
        here = self._here()
        bound = [with_context(one, here) for one in filters]
        return shown_to_next(bound, (*conversation.history, *call.entries)), View(call.agent)
