"""Summarising a long conversation in the middle of a run, in a step of its own."""

from __future__ import annotations

from outlast.core.agent_events import CallModel
from outlast.core.agents import AgentGraph
from outlast.core.entries import MessageInput
from outlast.core.errors import (
    ActivityError,
    MalformedReply,
    ModelError,
    PayloadTooLarge,
    Unserialisable,
)
from outlast.core.events import SummaryFailedData
from outlast.core.failure import Failure
from outlast.core.records import StepKind
from outlast.core.retry import RetryPolicy
from outlast.core.step_keys import summary_key
from outlast.core.summaries import Split, SummariseHistory
from outlast.core.usage import Usage
from outlast.ports.definitions import ActivityOptions
from outlast.ports.durability.steps import AskModel, Attempt, Step, StepContext
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.runtime.runs.conversation import Conversation, View
from outlast.runtime.runs.run_result import said_in

SUMMARY_OPTIONS = ActivityOptions(
    start_to_close_timeout=600.0,
    retry=RetryPolicy(max_attempts=3, initial_interval=1.0, backoff_coefficient=2.0, max_interval=10.0),
    effect="idempotent",
)
"""The options of a summary: few attempts, because a run can do without it."""


class Summaries:
    """Makes the summaries of one run, known by its key."""

    def __init__(
        self, session: Session, context: StepContext, run: str, must_have_price: tuple[str, ...]
    ) -> None:
        self._session = session
        self._context = context
        self._run = run
        self._must_have_price = must_have_price

    async def bring_up_to_date(
        self, conversation: Conversation | View, effect: CallModel, graph: AgentGraph
    ) -> Usage:
        """Summarise the older part of the conversation, if it is time, and return the usage of that.

        If it fails, the conversation is as it was, and the event stream says so.

        Raises:
            DefinitionError: the tokens cannot be counted.
        """
        summariser = self._session.summariser
        if summariser is None:
            return Usage()
        split = summariser.split(conversation.history, conversation.summary, effect.entries)
        if split is None:
            return Usage()
        step = Step(
            key=summary_key(self._run, effect.turn),
            kind=StepKind.SUMMARY,
            name="summarise",
            call=self._call(summariser, split, effect, graph),
            options=SUMMARY_OPTIONS,
            about={"agent": effect.agent},
        )
        try:
            reply = ModelReply.model_validate(await self._context.run_step(step))
        except (ModelError, ActivityError, PayloadTooLarge, Unserialisable):
            return Usage()  # The step's own event says why.
        text = said_in(reply.entries).strip()
        if text:
            conversation.summary = split.summarised(text)
        else:
            failure = Failure.of(MalformedReply("the model was asked for a summary, and said nothing"))
            self._context.emit(
                SummaryFailedData(
                    run=self._run, agent=effect.agent, turn=effect.turn, key=step.key, failure=failure
                )
            )
        return reply.usage.of_model(step.model)

    def _call(
        self, summariser: SummariseHistory, split: Split, effect: CallModel, graph: AgentGraph
    ) -> AskModel:
        asked = summariser.asked(graph[effect.agent])
        alone = AgentGraph(start=asked.name, agents={asked.name: asked})
        new = (MessageInput(content=split.transcript),)

        def request(attempt: Attempt) -> ModelRequest:
            return ModelRequest(
                graph=alone,
                agent=asked.name,
                turn=effect.turn,
                history=(),
                new=new,
                idempotency_key=attempt.idempotency_key,
                attempt=attempt.earlier + attempt.attempt,
            )

        return AskModel(self._session, request, asked.model, self._must_have_price)
