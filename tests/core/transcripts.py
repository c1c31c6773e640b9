"""Transcripts: runs of the agent machine as text, event in, effects out, to be read as a conversation.

    # A comment.
    agent front tools=search approve=pay handoffs=risk
    agent risk
    run max_turns=3 limits={"tool_calls": 1}

    > RunStarted
        user: What does the ferry cost?
    = awaiting_model (model asked)
    < CallModel agent=front turn=1
        ...

The first agent is the active one; `approve` names tools that need a person's approval; `run` sets fields of
`AgentRun`. Each paragraph below is an event (`>`, of a class of `agent_events`) and what the machine answers:
the next phase and the outcome of the event (`=`) and the effects (`<`), or that it refuses the event (`!`). A
new transcript needs only its events: `pytest tests/core --rewrite-golden` fills in the rest.

Fields of an event or effect are written as `name=value`, where a value is a word or JSON; those with their
default are left out. Longer texts, failures and the entries of a conversation have lines of their own:

    user: text                       a MessageInput
    model: text                      a MessageOutput
    call a: search {"q": "ferry"}    a FunctionCall; the rest of the line is what the model wrote as arguments
    server call a: web_search {}     one that the server will run
    result a: text                   a FunctionResult
    confirm a: allow                 a ToolConfirmation
    handoff: front -> risk           an AgentHandoff
    {"type": …}                      any other entry, as JSON
    reason: text                     a field of that name
    failure: ValueError: text        a failure of a class that is not ours
    failure: ToolFailed {"tool": …}  a failure of ours, with its fields
    ...                              the entries of the event, unchanged

A text that does not fit on a line is written as a JSON string. A decision about a call has the fingerprint
that was shown for it, unless it names another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, get_args

from outlast.core import errors
from outlast.core.agent_events import AgentEffect, AgentEvent, ApprovalDenied, ApprovalGiven, AskApproval
from outlast.core.agent_machine import move, step
from outlast.core.agent_run import AgentRun, Phase
from outlast.core.agent_transitions import Outcome
from outlast.core.agents import AgentGraph, AgentSpec, ToolSpec
from outlast.core.entries import Entry, entries
from outlast.core.failure import Failure
from tests.core.sample import AGENT_EVENT

ENTRIES = {
    "user: {content}": {"type": "message.input", "role": "user"},
    "model: {content}": {"type": "message.output"},
    "call {tool_call_id}: {name} {arguments}": {"type": "function.call"},
    "server call {tool_call_id}: {name} {arguments}": {
        "type": "function.call",
        "confirmation_status": "pending",
    },
    "result {tool_call_id}: {result}": {"type": "function.result"},
    "confirm {tool_call_id}: {confirmation}": {"type": "tool.confirmation"},
    "handoff: {previous_agent_name} -> {next_agent_name}": {"type": "agent.handoff"},
}
"""The forms of entries, each with the fields that it stands for."""
EVENTS: dict[str, type[AgentEvent]] = {kind.__name__: kind for kind in get_args(get_args(AgentEvent)[0])}
ANSWER = ("=", "<", "!")
WORD = re.compile(r"[A-Za-z_][\w.-]*")

Arrow = tuple[Phase, type[AgentEvent], Outcome, Phase]
"""A phase, an event, the outcome of the event, and the next phase."""


@dataclass
class Played:
    """A transcript with the answers that the machine gives, and the arrows of the table that it walks."""

    text: str
    arrows: set[Arrow]


def play(text: str) -> Played:
    """Return the transcript with the machine's answers to its events; those in `text` are not looked at."""
    paragraphs = [
        list(takewhile(lambda line: not line.startswith(ANSWER), paragraph.splitlines()))
        for paragraph in re.split(r"\n\n+", text.strip())
    ]
    run = _run([line for lines in paragraphs for line in lines if line.startswith(("agent ", "run "))])
    shown, arrows = dict[str, str](), set[Arrow]()
    for lines in paragraphs:
        said = [line for line in lines if line.startswith((">", " "))]
        if not said:
            continue
        event = _event(said[0], said[1:], shown)
        try:
            after, effects = step(run, event)
        except errors.IllegalTransition as error:
            lines.append(f"! {error}")
            continue
        _, outcome, _ = move(run, event)
        arrows.add((run.phase, type(event), outcome, after.phase))
        lines.append(f"= {after.phase} ({outcome})")
        for effect in effects:
            lines += _effect(effect, event)
            if isinstance(effect, AskApproval):
                shown[effect.call_id] = effect.fingerprint
        run = after
    return Played("\n\n".join("\n".join(lines) for lines in paragraphs) + "\n", arrows)


# Reading -----------------------------------------------------------------------------------------------


def _run(stage: Sequence[str]) -> AgentRun:
    agents: dict[str, AgentSpec] = {}
    options: dict[str, Any] = {}
    for line in stage:
        word, _, rest = line.partition(" ")
        if word == "run":
            options = dict(_fields(rest))
            continue
        name, _, rest = rest.partition(" ")
        has = {key: value.split(",") for key, value in _fields(rest)}
        tools = [(tool, key == "approve") for key in ("tools", "approve") for tool in has.get(key, ())]
        agents[name] = AgentSpec(
            name=name,
            model="m",
            tools=tuple(ToolSpec(name=tool, parameters={}, requires_approval=asks) for tool, asks in tools),
            handoffs=tuple(has.get("handoffs", ())),
        )
    graph = AgentGraph(start=next(iter(agents)), agents=agents)
    return AgentRun.model_validate({"graph": graph, **options})


def _event(head: str, lines: Sequence[str], shown: dict[str, str]) -> AgentEvent:
    name, _, rest = head.removeprefix("> ").partition(" ")
    known = EVENTS[name].model_fields
    fields: dict[str, Any] = {"type": known["type"].default, **dict(_fields(rest))}
    if EVENTS[name] in (ApprovalGiven, ApprovalDenied):
        fields.setdefault("fingerprint", shown.get(fields["call_id"], ""))
    said: list[Entry] = []
    for line in lines:
        label, _, words = line.strip().partition(": ")
        if label not in known:
            said.append(_entry(line.strip()))
        else:
            fields[label] = _failure(words) if label == "failure" else _unquoted(words)
    if "entry" in known:
        [fields["entry"]] = said
    elif field := {"inputs", "entries"} & known.keys():
        fields[field.pop()] = said
    return AGENT_EVENT.validate_python(fields)


def _fields(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the fields that are written as `name=value`."""
    while text := text.strip():
        name, _, text = text.partition("=")
        if re.match(r'["{[\d-]|(true|false|null)\b', text):
            value, end = json.JSONDecoder().raw_decode(text)
            text = text[end:]
        else:
            value, _, text = text.partition(" ")
        yield name, value


def _failure(text: str) -> Failure:
    kind, _, rest = text.partition(" ")
    if kind.endswith(":"):
        return Failure(kind=kind[:-1], message=_unquoted(rest))
    return Failure.of(getattr(errors, kind)(**json.loads(rest)))


def _entry(line: str) -> Entry:
    wire = json.loads(line) if line.startswith("{") else None
    for form, fields in ENTRIES.items():
        pattern = re.sub(r"{(\w+)}(?!$)", r"(?P<\1>\\S+)", form)
        if found := re.fullmatch(re.sub(r" {(\w+)}$", r" ?(?P<\1>.*)", pattern), line):
            wire = fields | {name: _unquoted(text) for name, text in found.groupdict().items()}
    [entry] = entries.validate_python([wire])
    return entry


def _unquoted(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text


# Writing -----------------------------------------------------------------------------------------------


def _effect(effect: AgentEffect, event: AgentEvent) -> Iterator[str]:
    """Yield the lines of an effect."""
    head, lines = f"< {type(effect).__name__}", []
    for name, field in type(effect).model_fields.items():
        value = getattr(effect, name)
        if name == "type" or (value == field.default and not field.is_required()):
            continue
        if isinstance(value, Failure):
            lines.append(f"{name}: {value.kind}: {_quoted(value.message)}")
        elif isinstance(value, tuple):
            given = getattr(event, "inputs", getattr(event, "entries", ()))
            lines += ["..."] if value and value == given else map(_line, value)
        elif name == "fingerprint":
            head += f" {name}={value[:8]}…"
        elif isinstance(value, str) and not WORD.fullmatch(value):
            lines.append(f"{name}: {_quoted(value)}")
        else:
            head += f" {name}={value if isinstance(value, str) else _json(value)}"
    yield head
    yield from (f"    {line}" for line in lines)


def _line(entry: Entry) -> str:
    """Return the shortest line from which the entry can be read."""
    wire = entry.to_wire()
    for form, fields in ENTRIES.items():
        values = {name: _quoted(str(value)) for name, value in wire.items() if name not in fields}
        if set(re.findall(r"{(\w+)}", form)) == values.keys() and fields.items() <= wire.items():
            line = form.format(**values)
            if _entry(line.strip()) == entry:
                return line.strip()
    return _json(wire)


def _quoted(text: str) -> str:
    fits = text.isprintable() and text == text.strip() and not text.startswith('"')
    return text if fits else _json(text)


def _json(value: Any) -> str:
    return json.dumps(value)
