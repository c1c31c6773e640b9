"""The calls of models that a run makes: what the model is shown, and what its reply changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from outlast.core.agent_events import CallModel, ModelReplied
from outlast.core.agents import AgentSpec
from outlast.core.entries import Entry
from outlast.core.errors import DefinitionError
from outlast.core.events import LimitReachedData, ReplyCutData
from outlast.core.records import StepKind
from outlast.core.replies import callers_in
from outlast.core.retry import RetryPolicy
from outlast.core.step_keys import model_key
from outlast.core.summaries import visible_entries
from outlast.ports.definitions import ActivityOptions
from outlast.ports.durability.steps import AskModel, Attempt, Step, StepContext
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.runtime.definitions.agent_binding import BoundAgents
from outlast.runtime.definitions.determinism_guard import own_code
from outlast.runtime.definitions.run_context import with_context
from outlast.runtime.runs.conversation import Conversation
from outlast.runtime.runs.found_tools import FoundTools
from outlast.runtime.runs.handoffs import Handoffs
from outlast.runtime.runs.summarising import Summaries
from outlast.runtime.runs.tool_calls import Here

MODEL_OPTIONS = ActivityOptions(
    start_to_close_timeout=600.0,
    retry=RetryPolicy(max_attempts=10, initial_interval=1.0, backoff_coefficient=2.0, max_interval=30.0),
    effect="idempotent",
)
"""The options of a model call: many attempts, because a busy conversation stays locked for up to 90 s."""

SPARE_SECONDS = 60.0
"""The time of an attempt beyond the session's time for a reply: agents may have to be made first."""


def _options(session: Session, agent: AgentSpec) -> ActivityOptions:
    longest = max(MODEL_OPTIONS.start_to_close_timeout, session.seconds_max(agent) + SPARE_SECONDS)
    if longest == MODEL_OPTIONS.start_to_close_timeout:
        return MODEL_OPTIONS
    return replace(MODEL_OPTIONS, start_to_close_timeout=longest)


@dataclass(slots=True)
class Produced:
    """The things that a run has produced so far."""

    entries: list[Entry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class ModelCalls:
    """Makes the model calls of one run, known by its key."""

    def __init__(
        self,
        agents: BoundAgents,
        session: Session,
        conversation: Conversation,
        context: StepContext,
        run: str,
        here: Here,
        produced: Produced,
        found: FoundTools,
        handoffs: Handoffs,
        must_have_price: tuple[str, ...],
    ) -> None:
        self._agents = agents
        self._session = session
        self._conversation = conversation
        self._context = context
        self._run = run
        self._here = here
        self._produced = produced
        self._found = found
        self._handoffs = handoffs
        self._must_have_price = must_have_price
        """The models whose prices must be known, because of a limit of money."""
        self._summaries = Summaries(session, context, run, must_have_price)
        self._have_called: set[str] = set()
        """The agents that have called a tool, or handed off."""

    async def reply_to(self, effect: CallModel) -> ModelReplied:
        """Return the model's reply; the entries that were sent become history only when it has come."""
        if effect.limit is not None:
            limit = effect.limit.message
            self._context.emit(
                LimitReachedData(run=self._run, agent=effect.agent, turn=effect.turn, limit=limit)
            )
        conversation, graph = self._conversation, self._found.graph
        new, view = self._handoffs.seen_in(conversation, effect)
        seen = conversation if view is None else view
        spent = await self._summaries.bring_up_to_date(seen, effect, graph)
        instructions = self._instructions_of(effect.agent)
        history, handle = visible_entries(seen.history, seen.summary), conversation.handle
        in_doubt, conversation.in_doubt = conversation.in_doubt, True
        tool_choice = self._tool_choice_of(graph[effect.agent])

        def request(attempt: Attempt) -> ModelRequest:
            # Not validated again: that would make a turn cost more the longer the conversation is.
            return ModelRequest.model_construct(
                graph=graph,
                agent=effect.agent,
                turn=effect.turn,
                instructions=instructions,
                history=history,
                new=new,
                handle=handle,
                may_call=effect.limit is None,
                tool_choice=tool_choice,
                idempotency_key=attempt.idempotency_key,
                attempt=attempt.earlier + attempt.attempt,
                in_doubt=in_doubt,
            )

        call = Step(
            key=model_key(self._run, effect.turn),
            kind=StepKind.MODEL,
            name="call_model",
            call=AskModel(self._session, request, graph[effect.agent].model, self._must_have_price),
            options=_options(self._session, graph[effect.agent]),
            about={"agent": effect.agent},
        )
        replied = await self._context.run_step(call)
        with own_code():
            reply = ModelReply.model_validate(replied)
        if reply.cut is not None:
            self._context.emit(
                ReplyCutData(run=self._run, agent=effect.agent, turn=effect.turn, reason=reply.cut)
            )
        self._produced.warnings += reply.warnings
        conversation.history += effect.entries
        conversation.view = view
        if view is not None:
            view.history += new
        conversation.unsent = ()
        # A server may have received more of the conversation, in a part that a retry has made void.
        conversation.in_doubt = self._context.outlived(call.key)
        # A conversation that a server keeps belongs to the original: a fork begins one of its own.
        inherited = self._context.inherited(call.key)
        conversation.handle = self._session.anew(reply.handle) if inherited else reply.handle
        self._produced.entries += effect.entries
        self._have_called |= callers_in(effect.agent, reply.entries)
        usage = reply.usage.of_model(graph[effect.agent].model)
        return ModelReplied(entries=reply.entries, usage=spent + usage)

    def _tool_choice_of(self, agent: AgentSpec) -> str | None:
        """Return how the model chooses a tool. One that had to call a tool, and has, may answer."""
        return "auto" if agent.must_call and agent.name in self._have_called else agent.tool_choice

    def runs_user_code(self, agent: str) -> bool:
        """Return whether a call of the agent's model runs code of a user here."""
        has_plain_instructions = isinstance(self._agents.by_name[agent].instructions, str)
        return self._session.summariser is not None or not has_plain_instructions

    def _instructions_of(self, agent: str) -> str:
        """Return the instructions that a function of the agent makes for this turn; "" if it has none.

        Raises:
            DefinitionError: the function returns something that is not a text.
        """
        instructions = self._agents.by_name[agent].instructions
        if isinstance(instructions, str):
            return ""  # Those are in the graph.
        made = with_context(instructions, self._here())()
        if not isinstance(made, str):
            raise DefinitionError(
                f"the function that makes the instructions of agent {agent!r} returned a "
                f"{type(made).__name__}; return a text"
            )
        return made
