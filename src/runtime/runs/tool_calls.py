"""Making the tool calls of a run: each kind of tool in its own way, and what a model is told of it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import cast

from outlast.core.agent_events import AnswerCall, AskApproval, CallTool
from outlast.core.agents import ToolSpec
from outlast.core.chunks import TextChunk, as_chunks, text_of, to_wire
from outlast.core.errors import InvalidArguments, ToolFailed
from outlast.core.failure import Failure
from outlast.core.json import JSON, encode
from outlast.core.records import StepKind
from outlast.core.retry import RetryPolicy
from outlast.core.step_keys import call_key
from outlast.ports.definitions import ActivityOptions, CallArguments, Signature
from outlast.ports.durability.steps import ActivityCall, Call, Step, StepContext, ToolCallOf
from outlast.ports.tools import ToolOutput, ToolSource
from outlast.runtime.definitions.agent import ActivityTool, FunctionTool, SourceTool, Team
from outlast.runtime.isolation.exits import contained

TOOL_OPTIONS = ActivityOptions(start_to_close_timeout=300.0, effect="idempotent")
BYTES_SHOWN_MAX = 1000
CONNECTING_SECONDS = 120.0
"""What an attempt may take beyond the time of a source's own: for a connection to be opened first."""
ONCE_OPTIONS = ActivityOptions(start_to_close_timeout=300.0, retry=RetryPolicy(max_attempts=1), effect="once")


class ToolCalls:
    """Makes the calls of one run, known by its key."""

    def __init__(self, team: Team, context: StepContext, run: str) -> None:
        self._team = team
        self._context = context
        self._run = run
        self._known: dict[tuple[str, str], str] = {}
        """Fingerprints of the tools of sources, by agent and name, as the model was last told of them."""

    async def result_of(self, effect: CallTool) -> str:
        """Make the call, and return what the model is told of its result.

        Raises:
            Exception: whatever the tool, or a step, fails with.
        """
        match self._team.bindings[effect.agent, effect.tool]:
            case ActivityTool(activity=activity):
                arguments = self._bound(activity.definition.signature, effect)
                call = ActivityCall.of(activity.definition, arguments)
                step = self._step(effect, activity.definition.name, call, activity.definition.options)
                return told(await self._context.run_step(step))
            case FunctionTool(fn=fn, signature=signature):
                args, kwargs = self._bound(signature, effect).python
                about = about_call(self._run, effect)
                self._context.emit("tool_called", about)
                try:
                    with contained(self._context.unwinds):
                        value = fn(*args, **kwargs)
                        if inspect.isawaitable(value):
                            value = await value
                        result = told(signature.dump_result(value))
                except Exception as error:
                    self._context.emit("tool_failed", {**about, "failure": _failure(error)})
                    raise
                self._context.emit("tool_returned", {**about, "result": result})
                return result
            case SourceTool(source=source, name=name):
                spec = self._team.graph[effect.agent].tool(name)
                assert spec is not None
                known = self._known.setdefault((effect.agent, name), spec.fingerprint)
                made = ToolCallOf(source, name, effect.arguments, known)
                step = self._step(effect, name, made, _options(spec, source))
                output = ToolOutput.model_validate(await self._context.run_step(step))
                result = told_output(output)
                if output.changed is not None:
                    self._known[effect.agent, name] = output.changed.fingerprint
                    result = f"{result}\n\n{told_change(output.changed)}"
                if output.is_error:
                    raise ToolFailed(name, "ToolError", result)
                return result

    def _step(self, effect: CallTool, name: str, call: Call, options: ActivityOptions) -> Step:
        """Return the call as a step. What its key and its name say already is not journaled beside them."""
        about: dict[str, JSON] = {"agent": effect.agent}
        if effect.tool != name:
            about["tool"] = effect.tool
        key = call_key(self._run, effect.turn, effect.call_id)
        return Step(key=key, kind=StepKind.TOOL, name=name, call=call, options=options, about=about)

    def _bound(self, signature: Signature, effect: CallTool) -> CallArguments:
        try:
            return signature.bind(effect.arguments)
        except InvalidArguments as error:
            self._context.emit("tool_called", about_call(self._run, effect))
            self._context.emit("tool_failed", {**about_call(self._run, effect), "failure": _failure(error)})
            raise


def _options(spec: ToolSpec, source: ToolSource) -> ActivityOptions:
    """Return how a call is tried: by what the source said when it was listed, which is journaled."""
    options = ONCE_OPTIONS if (spec.effect or source.effect(spec.name)) == "once" else TOOL_OPTIONS
    if spec.timeout_seconds is None:
        return options
    return replace(options, start_to_close_timeout=spec.timeout_seconds + CONNECTING_SECONDS)


def about_call(run: str, effect: CallTool | AskApproval | AnswerCall) -> dict[str, JSON]:
    """Return what readers of the event stream are told of whose call it is."""
    return {
        "run": run,
        "agent": effect.agent,
        "turn": effect.turn,
        "call_id": effect.call_id,
        "tool": effect.tool,
    }


def told(value: JSON) -> str:
    """Return what a model is told of a tool's result: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def told_output(output: ToolOutput) -> str:
    """Return what a model is told of what a tool source gave: text as it is, anything else as JSON.

    That is its content; a structure is told only where there is no content, which mostly says the same.
    """
    if not output.content:
        return "" if output.structured is None else told(output.structured)
    if all(isinstance(chunk, TextChunk) for chunk in as_chunks(output.content)):
        return text_of(output.content)
    return told(_brief(cast(JSON, to_wire(output.content))))


def told_change(tool: ToolSpec) -> str:
    """Return what a model is told after a call of a tool that is not any more what it was told at first."""
    now: JSON = {"description": tool.description, "parameters": tool.parameters}
    return (
        f"[The tool {tool.name!r} has changed since it was listed to you; this call was made to it as it is "
        f"now, and so will further ones: {encode(now).decode()}]"
    )


def _brief(value: JSON) -> JSON:
    """Return `value` without the bytes of images and documents, which are of no use to a model as text."""
    match value:
        case list():
            return [_brief(item) for item in value]
        case dict():
            return {name: item if name == "text" else _brief(item) for name, item in value.items()}
        case str() if len(value) > BYTES_SHOWN_MAX:
            return f"{value[:40]}… ({len(value)} characters, not shown)"
    return value


def _failure(error: Exception) -> JSON:
    return Failure.of(error).model_dump(mode="json")
