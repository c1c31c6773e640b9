"""Turns the outputs of the model into the entries of a conversation, and counts usage."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlast.testing.mistral_server.bodies import Inputs
from outlast.testing.mistral_server.errors import ApiError, mistaken
from outlast.testing.mistral_server.identity import Identifiers, StandInClock
from outlast.testing.mistral_server.model import (
    Call,
    Execute,
    HandOff,
    Json,
    Model,
    ModelPrompt,
    Output,
    Refuse,
    Say,
    Think,
    outputs_of,
    words_in,
)

_ID_PREFIXES = {
    "message.input": "msg",
    "message.output": "msg",
    "function.call": "fc",
    "function.result": "fr",
    "tool.execution": "tool_exec",
    "agent.handoff": "handoff",
}


@dataclass(frozen=True, slots=True)
class Speaker:
    """The one who answers: an agent at a version, or a model without an agent.

    `handoffs` maps the names of agents to their ids.
    """

    model: str
    instructions: str | None
    tools: Sequence[Json]
    completion_args: Json
    agent_id: str | None = None
    agent_name: str | None = None
    handoffs: Mapping[str, str] = field(default_factory=dict)

    def confirms(self, tool: str) -> bool:
        """Return whether the caller must confirm this tool before it runs."""
        configurations = (known.get("tool_configuration") or {} for known in self.tools)
        return any(
            tool in (configuration.get("requires_confirmation") or ()) for configuration in configurations
        )


@dataclass(slots=True)
class CountedUsage:
    """The token counts of one request. A word counts as one token."""

    prompt: int = 0
    completion: int = 0
    connector: int = 0
    connectors: Counter[str] = field(default_factory=Counter)

    def add_prompt(self, speaker: Speaker, words: int) -> None:
        self.prompt += words + words_in(speaker.instructions or "") + words_in(speaker.tools)

    def add_output(self, entry: Json) -> None:
        if entry["type"] == "tool.execution":
            self.connector += words_in([entry["arguments"], entry["info"]])
            self.connectors[entry["name"]] += 1
        else:
            self.completion += words_in({name: entry.get(name) for name in ("content", "name", "arguments")})

    def to_wire(self) -> Json:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion + self.connector,
            "connector_tokens": self.connector if self.connectors else None,
            "connectors": dict(self.connectors) or None,
        }


class ModelCaller:
    """Calls the model. It collects the errors of the model: mistakes of the test, not of the tested code."""

    def __init__(self, model: Model, errors: list[BaseException]) -> None:
        self._model = model
        self._errors = errors

    async def ask(self, call: ModelPrompt) -> list[Output]:
        """Return the reply of the model.

        Raises:
            ApiError: the reply has a `Refuse`; or the model failed, then with status 400 and the reason.
        """
        try:
            answer = self._model(call)
            reply = outputs_of(call, await answer if inspect.isawaitable(answer) else answer)
            _check(call, reply)
        except Exception as error:
            raise self.failed(error) from error
        for output in reply:
            if isinstance(output, Refuse):
                raise ApiError(output.status, output.body, output.headers)
        return reply

    def failed(self, error: Exception) -> ApiError:
        """Collect an error of the stand-in itself, and return the error that its client gets."""
        self._errors.append(error)
        return mistaken(f"The model of the stand-in failed: {type(error).__name__}: {error}")


class EntryWriter:
    """Writes the entries of one conversation."""

    def __init__(self, identifiers: Identifiers, clock: StandInClock, conversation_id: str) -> None:
        self._identifiers = identifiers
        self._clock = clock
        self._conversation_id = conversation_id
        self._unconfirmed: dict[str, Execute] = {}

    def for_branch(self, conversation_id: str) -> EntryWriter:
        """Return a writer for a conversation that branches off from this one."""
        branch = EntryWriter(self._identifiers, self._clock, conversation_id)
        branch._unconfirmed = dict(self._unconfirmed)
        return branch

    def inputs(self, parsed: Inputs, raw: str | Sequence[Json]) -> list[Json]:
        """Return the inputs of a request as entries; their content stays exactly as it was sent."""
        if isinstance(parsed, str) or isinstance(raw, str):
            return [self._entry("message.input", role="user", content=raw, prefix=False)]
        return [self._input(entry.type, sent) for entry, sent in zip(parsed, raw, strict=True)]

    def outputs(self, reply: Sequence[Output], speaker: Speaker) -> Iterator[Json]:
        """Yield the entries of one reply, without the handoff."""
        thoughts: list[Json] = []
        by = {"agent_id": speaker.agent_id, "model": speaker.model}
        for output in reply:
            if isinstance(output, Think):
                thoughts.append(
                    {"type": "thinking", "thinking": [{"type": "text", "text": output.text}], "closed": True}
                )
            elif isinstance(output, Say):
                yield self._message(by, _with_thoughts(thoughts, output.content))
                thoughts = []
            else:
                if thoughts:
                    yield self._message(by, thoughts)
                    thoughts = []
                if isinstance(output, Call):
                    yield self._call(by, output, None)
                elif isinstance(output, Execute) and speaker.confirms(output.tool):
                    call = self._call(by, output, "pending")
                    self._unconfirmed[call["tool_call_id"]] = output
                    yield call
                elif isinstance(output, Execute):
                    yield self._execution(by, output)
        if thoughts:
            yield self._message(by, thoughts)

    def allowed(self, call: Json) -> Json:
        """Return the entry for a run of a tool that the caller has allowed."""
        by = {"agent_id": call.get("agent_id"), "model": call.get("model")}
        asked_for = Execute(tool=call["name"], arguments=call["arguments"])
        return self._execution(by, self._unconfirmed.pop(call["tool_call_id"], asked_for))

    def handoff(self, before: Speaker, after: Speaker) -> Json:
        return self._done(
            "agent.handoff",
            previous_agent_id=before.agent_id,
            previous_agent_name=before.agent_name,
            next_agent_id=after.agent_id,
            next_agent_name=after.agent_name,
        )

    def _message(self, by: Json, content: str | Sequence[Json]) -> Json:
        return self._done("message.output", **by, role="assistant", content=content)

    def _execution(self, by: Json, execute: Execute) -> Json:
        arguments = _arguments(execute.arguments)
        return self._done(
            "tool.execution", **by, name=execute.tool, arguments=arguments, info=dict(execute.info)
        )

    def _call(self, by: Json, call: Call | Execute, confirmation: str | None) -> Json:
        call_id = getattr(call, "call_id", None) or self._identifiers.tool_call(self._conversation_id)
        return self._entry(
            "function.call",
            **by,
            tool_call_id=call_id,
            name=call.tool,
            arguments=_arguments(call.arguments),
            confirmation_status=confirmation,
        )

    def _input(self, kind: str, sent: Json) -> Json:
        given = {name: value for name, value in sent.items() if value is not None}
        defaults: Json = {"prefix": False} if kind == "message.input" else {}
        return self._entry(kind, **defaults) | given | {"object": "entry", "type": kind}

    def _done(self, kind: str, **fields: Any) -> Json:
        entry = self._entry(kind, **fields)
        entry["completed_at"] = self._clock.now()
        return entry

    def _entry(self, kind: str, **fields: Any) -> Json:
        identifier = self._identifiers.new(_ID_PREFIXES[kind], self._conversation_id)
        head = {"object": "entry", "type": kind, "id": identifier, "created_at": self._clock.now()}
        return head | {"completed_at": None} | fields


def _with_thoughts(thoughts: Sequence[Json], content: str | Sequence[Json]) -> str | Sequence[Json]:
    if not thoughts:
        return content
    chunks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [*thoughts, *chunks]


def _arguments(arguments: Mapping[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _check(call: ModelPrompt, reply: Sequence[Output]) -> None:
    """Raise an error if the model of this call cannot give this reply."""
    for position, output in enumerate(reply):
        if isinstance(output, HandOff):
            if output.to not in call.handoffs:
                raise ValueError(
                    f"agent {call.agent!r} cannot hand off to {output.to!r}; it can hand off to "
                    f"{sorted(call.handoffs)}"
                )
            if position != len(reply) - 1:
                raise ValueError(
                    "a HandOff must end its reply; move the outputs after it to the reply of the next agent"
                )
