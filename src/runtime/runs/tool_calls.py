"""Makes the tool calls of a run, each kind of tool in its own way, and words the results for the model."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from outlast.core.agent_events import AnswerCall, AskApproval, CallTool
from outlast.core.agents import ToolSpec
from outlast.core.errors import InvalidArguments, PayloadTooLarge, ToolFailed
from outlast.core.events import ToolCalledData, ToolFailedData, ToolReturnedData
from outlast.core.failure import Failure
from outlast.core.json import JSON, encode
from outlast.core.records import StepKind
from outlast.core.retry import RetryPolicy
from outlast.core.step_keys import call_key, run_key
from outlast.core.tool_output import ToolOutput, as_text
from outlast.ports.definitions import ActivityOptions, CallArguments, Signature
from outlast.ports.durability.steps import Call, CallSourceTool, RunActivity, Step, StepContext
from outlast.ports.tools import ToolSource
from outlast.runtime.definitions.agent import INPUT, AgentTool
from outlast.runtime.definitions.agent_binding import ActivityTool, BoundAgents, FunctionTool, SourceTool
from outlast.runtime.definitions.determinism_guard import user_code
from outlast.runtime.definitions.run_context import RunContext, with_context
from outlast.runtime.definitions.tool_index import QUERY, ToolIndex
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.tracebacks import failure_of
from outlast.runtime.runs.found_tools import FoundTools
from outlast.runtime.runs.tool_guards import ToolGuards

TOOL_OPTIONS = ActivityOptions(start_to_close_timeout=300.0, effect="idempotent")
CONNECTING_SECONDS = 120.0
"""The time of an attempt beyond the source's own timeout: a connection may have to be opened first."""
ONCE_OPTIONS = ActivityOptions(start_to_close_timeout=300.0, retry=RetryPolicy(max_attempts=1), effect="once")


Here = Callable[[], RunContext[Any]]
"""Returns the place of the run that it has come to."""
Ask = Callable[[AgentTool, str, str, str], Awaitable[str]]
"""Asks an agent tool of that name, with that text, in a run with that key; returns its answer."""


class ToolCalls:
    """Makes the calls of one run, known by its key."""

    def __init__(
        self,
        agents: BoundAgents,
        context: StepContext,
        run: str,
        ask: Ask,
        here: Here,
        found: FoundTools,
    ) -> None:
        self._agents = agents
        self._context = context
        self._run = run
        self._ask = ask
        self._here = here
        self._found = found
        self._guards = ToolGuards(agents, context, run)
        self._known: dict[tuple[str, str], str] = {}
        """Fingerprints of the tools of sources, by agent and name, as the model last saw them."""

    async def result_of(self, effect: CallTool) -> str:
        """Make the call, unless a guardrail stops it, and return its result as the model gets it.

        Raises:
            CallRejected: a guardrail rejects the call, or its result.
            Exception: whatever the tool, or a step, fails with.
        """
        if (
            self._guards.has_any(effect)
            and self.fault_of(effect.agent, effect.tool, effect.arguments) is None
        ):
            answer = self._guards.answer_before(effect, self._here_in(effect))
            if answer is not None:
                return answer
        return self._guards.let_out(effect, await self._made(effect), self._here_in(effect))

    def runs_user_code(self, effect: CallTool) -> bool:
        """Return whether a call runs code of a user here, but for reading its arguments."""
        binding = self._agents.bindings.get((effect.agent, effect.tool))
        if not isinstance(binding, (ActivityTool, SourceTool)):
            return True
        return any(self._agents.tool_guardrails(effect.agent, effect.tool, of) for of in ("call", "result"))

    def is_settled(self, asked: AskApproval) -> bool:
        """Return whether nobody needs to allow a call, because it is faulty, or a guardrail stops it."""
        if self.fault_of(asked.agent, asked.tool, asked.arguments) is not None:
            return True
        return self._guards.stops(asked, self._here_in(asked))

    def _here_in(self, call: CallTool | AskApproval) -> RunContext[Any]:
        here = self._here()
        return RunContext(here.context, here.agent, here.turn, here.usage, call.tool)

    async def _made(self, effect: CallTool) -> str:
        match self._agents.bindings[effect.agent, effect.tool]:
            case ActivityTool(activity=activity):
                arguments = self._bound(activity.definition.signature, effect)
                call = RunActivity.of(activity.definition, arguments)
                step = self._step(effect, activity.definition.name, call, activity.definition.options)
                return as_text(await self._context.run_step(step))
            case FunctionTool(fn=fn, signature=signature):
                args, kwargs = self._bound(signature, effect).python

                async def returned() -> JSON:
                    value = with_context(fn, self._here_in(effect))(*args, **kwargs)
                    return signature.dump_result(await value if inspect.isawaitable(value) else value)

                return as_text(await self._emitted(effect, returned))
            case ToolIndex(signature=signature):
                query = self._bound(signature, effect).written[QUERY]

                async def looked_up() -> JSON:
                    return self._found.search(effect.agent, effect.tool, str(query))

                return as_text(await self._emitted(effect, looked_up))
            case AgentTool() as tool:
                given = self._bound(tool.signature, effect).written[INPUT]
                asked = given if isinstance(given, str) else encode(given).decode()
                key = run_key(self._context.next_key(), self._run)

                async def answered() -> JSON:
                    return await self._ask(tool, effect.tool, asked, key)

                return as_text(await self._emitted(effect, answered, nested_run=key))
            case SourceTool(source=source, name=name):
                spec = self._agents.graph[effect.agent].tool(name)
                assert spec is not None
                known = self._known.setdefault((effect.agent, name), spec.fingerprint)
                made = CallSourceTool(source, name, effect.arguments, known)
                step = self._step(effect, name, made, _options(spec, source), source.name)
                output = ToolOutput.model_validate(await self._context.run_step(step))
                if output.changed is not None:
                    self._known[effect.agent, name] = output.changed.fingerprint
                return text_of_output(name, output)

    async def _emitted(
        self, effect: CallTool, result: Callable[[], Awaitable[JSON]], nested_run: str | None = None
    ) -> JSON:
        """Return the result of a call that is made here, without a step; its events say what comes of it."""
        about = about_call(self._run, effect)
        self._context.emit(ToolCalledData(**about, nested_run=nested_run))
        try:
            with contained(self._context.unwinds):
                value = await result()
            self._context.emit(ToolReturnedData(**about, result=value))
        except Exception as error:
            if (recorded := self._recorded(about, error)) is not None:
                raise recorded from error
            raise
        return value

    def fault_of(self, agent: str, tool: str, arguments: dict[str, JSON]) -> InvalidArguments | None:
        """Return why a tool of ours cannot be called with these arguments; None if it can."""
        match self._agents.bindings.get((agent, tool)):
            case ActivityTool(activity=activity):
                signature: Signature = activity.definition.signature
            case FunctionTool(signature=own) | AgentTool(signature=own) | ToolIndex(signature=own):
                signature = own
            case _:
                return None  # The source, or the server, that runs the tool checks its arguments.
        try:
            with contained(self._context.unwinds):
                signature.bind(arguments)
        except InvalidArguments as error:
            return error
        return None

    def _step(
        self, effect: CallTool, name: str, call: Call, options: ActivityOptions, source: str | None = None
    ) -> Step:
        """Return the call as a step. What its key and its name say already is not journaled beside them."""
        about: dict[str, JSON] = {"agent": effect.agent}
        if effect.tool != name:
            about["tool"] = effect.tool
        if source is not None:
            about["source"] = source
        key = call_key(self._run, effect.turn, effect.call_id)
        return Step(key=key, kind=StepKind.TOOL, name=name, call=call, options=options, about=about)

    def _bound(self, signature: Signature, effect: CallTool) -> CallArguments:
        try:
            with user_code():
                return signature.bind(effect.arguments)
        except InvalidArguments as error:
            about = about_call(self._run, effect)
            self._context.emit(ToolCalledData(**about))
            if (recorded := self._recorded(about, error)) is not None:
                raise recorded from error
            raise

    def _recorded(self, about: dict[str, Any], error: Exception) -> Exception | None:
        """Emit that a call has failed. Return the error that is recorded, if that is another one.

        In a replay that is the error with the words of before; for an error that no record can hold, it is
        `PayloadTooLarge`. So the model is sent nothing that is not in the journal.
        """
        failure = failure_of(error)
        try:
            emitted = self._context.emit(ToolFailedData(**about, failure=failure))
        except PayloadTooLarge as too_large:
            emitted = self._context.emit(ToolFailedData(**about, failure=Failure.of(too_large)))
        return None if emitted.failure == failure else emitted.failure.error()


def _options(spec: ToolSpec, source: ToolSource) -> ActivityOptions:
    """Return how a call is tried: by what the source said when it was listed, which is journaled."""
    options = ONCE_OPTIONS if (spec.effect or source.effect(spec.name)) == "once" else TOOL_OPTIONS
    if spec.timeout_seconds is None:
        return options
    return replace(options, start_to_close_timeout=spec.timeout_seconds + CONNECTING_SECONDS)


def about_call(run: str, effect: CallTool | AskApproval | AnswerCall) -> dict[str, Any]:
    """Return the fields that say, in an event, whose call it is."""
    return {
        "run": run,
        "agent": effect.agent,
        "turn": effect.turn,
        "call_id": effect.call_id,
        "tool": effect.tool,
    }


def text_of_output(tool: str, output: ToolOutput) -> str:
    """Return the text that answers a call of a source's tool.

    Raises:
        ToolFailed: the tool reports an error.
    """
    text = output.text if output.changed is None else f"{output.text}\n\n{change_notice(output.changed)}"
    if output.failure is not None:
        raise ToolFailed(tool, output.failure.kind, text)
    return text


def change_notice(tool: ToolSpec) -> str:
    """Return the text that the model gets when a tool has changed since the model saw its schema."""
    now: JSON = {"description": tool.description, "parameters": tool.parameters}
    return (
        f"[The tool {tool.name!r} has changed since it was listed to you; this call was made to it as it is "
        f"now, and so will further ones: {encode(now).decode()}]"
    )
