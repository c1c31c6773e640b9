"""Strategies for the properties of the core: JSON, agent graphs, replies, entries, records."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from outlast.core import records
from outlast.core.agent_events import LimitAnswered
from outlast.core.agent_run import AgentRun
from outlast.core.agents import AgentGraph, AgentSpec, ToolSpec, handoff_tool
from outlast.core.chunks import Content, TextChunk, UnknownChunk
from outlast.core.entries import (
    AgentHandoff,
    Entry,
    FunctionCall,
    MessageInput,
    MessageOutput,
    ToolExecution,
    UnknownEntry,
)
from outlast.core.errors import BudgetExceeded, DeterminismError, ModelRefused, ToolFailed
from outlast.core.events import DATA, AnyEventData, Carried, EventKind
from outlast.core.failure import Failure, Frame
from outlast.core.json import JSON
from outlast.core.limits import Limits, RunAllowance
from outlast.core.records import StepKind
from outlast.core.usage import Usage

# JSON --------------------------------------------------------------------------------------------------

any_text = st.text(st.characters(exclude_categories=()), max_size=6)
"""Text with everything that a Python string may hold, lone surrogates included."""

unicode_text = st.text(max_size=6)

finite = st.floats(allow_nan=False, allow_infinity=False)


def _json(text: SearchStrategy[str]) -> SearchStrategy[JSON]:
    leaves = st.none() | st.booleans() | st.integers() | finite | text
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=5,
    )


json_values = _json(any_text)
json_objects = st.dictionaries(any_text, json_values, max_size=3)
unicode_objects = st.dictionaries(unicode_text, _json(unicode_text), max_size=3)

instants = st.floats(min_value=0, max_value=1e10)


def nested(levels: int) -> Any:
    """Return `levels` lists, each in the other."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


# Agents ------------------------------------------------------------------------------------------------

AGENTS = ("front", "risk", "legal desk", "größe")
HANDOFFS = tuple(handoff_tool(agent) for agent in AGENTS)
TOOLS = (
    ToolSpec(name="search", parameters={"type": "object"}),
    ToolSpec(name="send", parameters={"type": "object"}),
    ToolSpec(name="pay", parameters={"type": "object"}, requires_approval=True),
)


@st.composite
def agent_graphs(draw: st.DrawFn) -> AgentGraph:
    """Graphs of one to four agents, cycles included."""
    names = AGENTS[: draw(st.integers(1, len(AGENTS)))]
    agents = {}
    for name in names:
        others = [other for other in names if other != name]
        # Each bit says whether the agent has a certain tool or handoff.
        has = draw(st.integers(0, 2 ** (len(TOOLS) + len(others)) - 1))
        chosen = [one for bit, one in enumerate([*TOOLS, *others]) if not has >> bit & 1]
        agents[name] = AgentSpec(
            name=name,
            model="m",
            tools=tuple(one for one in chosen if isinstance(one, ToolSpec)),
            handoffs=tuple(one for one in chosen if isinstance(one, str)),
            max_parallel_tools=draw(st.sampled_from([None, None, 1, 2])),
        )
    return AgentGraph(start=names[0], agents=agents)


tight_limits = st.sampled_from(
    [
        Limits(total_tokens=2),
        Limits(tool_calls=1),
        Limits(tool_calls=2),
        Limits(seconds=1),
        Limits(total_tokens=3, tool_calls=3, seconds=3),
    ]
)
all_limits = st.sampled_from(
    [
        *[Limits()] * 3,
        Limits(tool_calls=2),
        Limits(total_tokens=4, tool_calls=4),
        Limits(seconds=5),
        Limits(total_tokens=1, seconds=0.5),
        Limits(tool_calls=0),
    ]
)


allowances = st.sampled_from(
    [
        *[RunAllowance()] * 20,
        RunAllowance(tool_calls=1, tool_calls_max=5),
        RunAllowance(tool_calls=0, tool_calls_max=5),
        RunAllowance(limit=Failure.of(BudgetExceeded("outer", "seconds", 1.0, 2.0))),
    ]
)
"""The allowances of runs around, most often without any bound."""
asking_allowances = allowances.map(lambda one: one.with_(asks=one.limit is not None))
"""The same, where a person may raise the limits."""
raises = st.builds(
    LimitAnswered,
    limit=st.sampled_from([None, "max_turns", "total_tokens", "cost", "tool_calls", "seconds"]),
    to=st.none() | st.sampled_from([Decimal(number) for number in ("0.5", "2", "3", "7", "50")]),
)
"""Answers about limits."""


@st.composite
def bounded_runs(draw: st.DrawFn) -> AgentRun:
    """Runs that have not begun, and will soon meet a limit or a check."""
    return AgentRun(
        graph=draw(agent_graphs()),
        max_turns=draw(st.sampled_from([2, 3, 9])),
        limits=draw(tight_limits),
        on_limit=draw(st.sampled_from(["finish", "raise"])),
        checked=draw(st.sampled_from([dict.fromkeys(AGENTS, 1), dict.fromkeys(AGENTS, 0), {}])),
    )


@st.composite
def asking_runs(draw: st.DrawFn) -> AgentRun:
    """Runs that have not begun, will soon meet a limit, and then ask a person."""
    return draw(bounded_runs()).with_(on_limit="ask")


@st.composite
def agent_runs(draw: st.DrawFn) -> AgentRun:
    """Runs that have not begun."""
    return AgentRun(
        graph=draw(agent_graphs()),
        max_turns=draw(st.sampled_from([6, 9, 3, 1])),
        limits=draw(all_limits),
        on_limit=draw(st.sampled_from(["raise", "finish"])),
        checked=draw(st.sampled_from([{}, {"front": 2, "risk": 0}, dict.fromkeys(AGENTS, 1)])),
        raise_on_tool_fail=draw(st.sampled_from([False] * 7 + [True])),
    )


# Replies -----------------------------------------------------------------------------------------------

UNUSABLE_ARGUMENTS = (
    "{",
    "[1]",
    "null",
    "7",
    '"text"',
    '{"x": NaN}',
    '{"x": -Infinity}',
    '{"x": 1e999}',
    "{'x': 1}",
    "\ud800",
    '{"x":' + "[" * 150 + "]" * 150 + "}",
    '{"x":' * 2_000,
    '{"x": ' + "9" * 5000 + "}",
)
"""Arguments that models write, and that no tool accepts."""


USABLE_ARGUMENTS = ("{}", "", " \n", '{"x": "\\ud800"}', '{"x": [1, {"y": null}]}')

# A name that is a number stands for one that the active agent knows (see `stories`).
# One draw from a pool is many times faster than a draw for each field; it leaves time for longer stories.
function_calls = st.sampled_from(
    [
        FunctionCall(tool_call_id=call_id, name=name, arguments=text)
        for text in (*USABLE_ARGUMENTS * 6, *UNUSABLE_ARGUMENTS)
        for name in (
            "0",
            "1",
            "2",
            "3",
            "4",
            "5",
            *map(handoff_tool, AGENTS),
            "send",
            "transfer_to_nobody",
            "",
        )
        for call_id in ("a", "b", "c", "d", "", "call00000", "\ud800")
    ]
)
server_calls = st.sampled_from(
    [
        FunctionCall.model_validate(
            {"tool_call_id": call_id, "name": name, "arguments": text, "confirmation_status": "pending"}
        )
        for text in ("{}", '{"q": 1}', "no JSON")
        for name in ("web_search", "send", *map(handoff_tool, AGENTS))
        for call_id in ("a", "s", "")
    ]
)
"""Calls that the server runs, once a person has allowed them."""
contents: list[Content] = [
    "",
    "hello",
    "\ud800\x00",
    (TextChunk(text="hello"),),
    (UnknownChunk.model_validate({"type": "hologram", "x": [{"\ud800": nested(50)}]}), TextChunk(text="")),
]
user_messages = st.sampled_from([MessageInput(content=content) for content in contents])
server_handoffs = st.sampled_from(
    [AgentHandoff(previous_agent_name="front", next_agent_name=agent) for agent in (*AGENTS * 3, "nobody")]
)
other_entries: SearchStrategy[Entry] = st.sampled_from(
    [
        *(MessageOutput(content=content) for content in contents),
        ToolExecution(name="web_search", info={"x": [1]}),
        UnknownEntry.model_validate({"type": "", "x": nested(50)}),
        UnknownEntry.model_validate({"type": "agent.dreamt", "\x00": {"\ud800": 1e300}}),
    ]
)
call_replies: SearchStrategy[list[FunctionCall]] = st.lists(
    st.one_of(*[function_calls] * 7, server_calls), min_size=2, max_size=4
)
replies: SearchStrategy[tuple[Entry, ...]] = st.lists(
    st.one_of(*[function_calls] * 3, server_calls, *[other_entries, server_handoffs] * 2), max_size=5
).map(tuple)

usages = st.sampled_from(
    [Usage(), Usage(prompt_tokens=1, connectors={"b": 1}), Usage(connectors={"a": 2, "b": 1})]
)
failures = st.sampled_from(
    [
        Failure(kind="ValueError", message="no", retryable=True),
        Failure.of(ToolFailed("send", "ValueError", "no")),
        Failure.of(ModelRefused(400, "no")),
        Failure.of(DeterminismError("time.time()")),
        Failure(kind="InvalidArguments", message="of old", details={"tool": "send", "faults": 1}),
        Failure(kind="Sequence", message="\ud800", details={}),
        Failure(kind="\ud800", message="", details={"\ud800": nested(50)}),
        Failure(
            kind="KeyError",
            message="'tea'",
            module="builtins",
            frames=(Frame(file="shop.py", line=3, function="price", text="return prices[item]"),),
            cause=Failure(kind="OSError", message="", frames=(Frame(file="\ud800", line=1, function="f"),)),
            group=(Failure(kind="ValueError", message="one\ntwo"), Failure(kind="E", message="")),
        ),
    ]
)

# Events ------------------------------------------------------------------------------------------------

_BY_TYPE: dict[Any, SearchStrategy[Any]] = {
    str: any_text,
    int: st.integers(0, 9),
    float: instants,
    Failure: failures,
    JSON: json_values,
    dict[str, JSON]: json_objects,
    dict[str, str]: st.dictionaries(any_text, any_text, max_size=3),
    list[str]: st.lists(any_text, max_size=2),
    tuple[str, ...]: st.lists(any_text, max_size=2).map(tuple),
    tuple[Carried, ...]: st.lists(json_values, max_size=2).map(tuple),
    Literal["length", "content_filter"]: st.sampled_from(["length", "content_filter"]),
    Literal["input", "output", "call", "result"]: st.sampled_from(["input", "output", "call", "result"]),
    str | None: st.none() | any_text,
    int | None: st.none() | st.integers(0, 9),
    bool | None: st.none() | st.booleans(),
    dict[str, JSON] | None: st.none() | json_objects,
}
"""The values of the fields of events."""


def data_of_kind(kind: EventKind) -> SearchStrategy[AnyEventData]:
    """Return the data that events of this kind may have."""
    cls = DATA[kind]
    return st.builds(cls, **{name: _BY_TYPE[field.annotation] for name, field in cls.model_fields.items()})


any_event_data = st.sampled_from(EventKind).flatmap(data_of_kind)

# Records -----------------------------------------------------------------------------------------------

_keys = any_text
any_input: SearchStrategy[Any] = st.one_of(
    st.builds(records.ExecutionStarted, at=instants, workflow=any_text, arguments=json_objects),
    st.builds(records.StepCompleted, at=instants, key=_keys, result=json_values),
    st.builds(records.StepFailed, at=instants, key=_keys, attempts=st.integers(1, 9), failure=failures),
    st.builds(records.TimerFired, at=instants, key=_keys),
    st.builds(
        records.SignalReceived,
        at=instants,
        message_id=any_text,
        name=any_text,
        arguments=st.lists(json_values, max_size=2).map(tuple),
        named=json_objects,
    ),
    st.builds(
        records.UpdateAccepted,
        at=instants,
        update_id=any_text,
        name=any_text,
        arguments=st.lists(json_values, max_size=2).map(tuple),
        named=json_objects,
    ),
    st.builds(records.ChildStarted, at=instants, key=_keys, child=any_text),
    st.builds(records.CancelRequested, at=instants, message_id=any_text),
)
any_request: SearchStrategy[Any] = st.one_of(
    st.builds(
        records.StepScheduled,
        key=_keys,
        kind=st.sampled_from(StepKind),
        name=any_text,
        arguments=json_values,
        about=json_objects,
    ),
    st.builds(records.TimerStarted, key=_keys, due_at=instants),
    st.builds(records.EventEmitted, key=_keys, kind=any_text, data=json_objects),
    st.builds(records.UpdateCompleted, update_id=any_text, result=json_values, failure=st.none() | failures),
    st.builds(
        records.ExecutionEnded,
        status=st.sampled_from(
            [one for one in records.Status if one not in (records.Status.RUNNING, records.Status.PAUSED)]
        ),
        result=json_values,
        failure=st.none() | failures,
    ),
)
any_note: SearchStrategy[Any] = st.one_of(
    st.builds(
        records.AttemptFailed,
        at=instants,
        key=_keys,
        attempt=st.integers(1, 9),
        failure=failures,
        retry_at=instants,
        heartbeat=json_values,
    ),
    st.builds(records.UpdateNotAccepted, at=instants, update_id=any_text, failure=failures),
    st.builds(
        records.ExecutionRecovered,
        at=instants,
        worker=st.none() | any_text,
        last_words=st.none() | any_text,
        part=st.none() | st.sampled_from(records.Part),
        successor=st.none() | any_text,
    ),
    st.builds(records.ExecutionHeld, at=instants, reason=any_text),
    st.builds(
        records.ExecutionReopened,
        at=instants,
        position=st.integers(0, 9),
        failed=st.lists(_keys, max_size=2).map(tuple),
        open=st.lists(
            st.builds(records.StepScheduled, key=_keys, kind=st.sampled_from(StepKind), name=any_text),
            max_size=2,
        ).map(tuple),
    ),
    st.builds(
        records.ExecutionForked,
        at=instants,
        source=any_text,
        position=st.integers(1, 9),
        edited=st.lists(_keys, max_size=2).map(tuple),
    ),
    st.builds(records.ExecutionPaused, at=instants, reason=st.none() | any_text),
    st.builds(records.ExecutionResumed, at=instants),
)
any_record = any_input | any_request | any_note
