"""Approvals: a decision is bound to the call that was shown; pending calls are read from the event stream."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.agent_events import (
    AnswerCall,
    ApprovalDenied,
    ApprovalGiven,
    AskApproval,
    CallModel,
    CallTool,
    Fail,
    ModelReplied,
    RunCancelled,
    RunStarted,
)
from outlast.core.agent_machine import step
from outlast.core.agent_run import AgentRun
from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.approvals import (
    DECISION_SIGNAL,
    AskedCalls,
    Decision,
    Decisions,
    PendingApproval,
    asked_in,
    decision_in,
    decision_on,
    read_decision,
)
from outlast.core.argument_schema import faults_in
from outlast.core.entries import FunctionCall, ToolConfirmation
from outlast.core.errors import (
    AlreadyDecided,
    DefinitionError,
    IllegalTransition,
    InvalidArguments,
    NotPending,
    Unserialisable,
)
from outlast.core.events import (
    AnyEventData,
    ApprovalDeniedData,
    ApprovalGivenData,
    ApprovalRequestedData,
    ExecutionCancelledData,
    ExecutionCompletedData,
    ExecutionFailedData,
    ResultUnsentData,
    ToolReturnedData,
)
from outlast.core.failure import Failure
from outlast.core.fingerprints import call_fingerprint
from outlast.core.json import JSON, canonical
from tests.core.strategies import TOOLS, any_text, json_objects, nested

shown = st.tuples(any_text, any_text, json_objects)


@given(shown, shown)
def test_only_the_same_agent_tool_and_arguments_have_the_same_fingerprint(
    one: tuple[str, str, Any], other: tuple[str, str, Any]
) -> None:
    same = canonical(list(one)) == canonical(list(other))
    assert (call_fingerprint(*one) == call_fingerprint(*other)) == same


def test_a_decision_about_other_arguments_is_refused_and_changes_nothing() -> None:
    agent = AgentSpec(name="a", model="m", tools=TOOLS)
    run = AgentRun(graph=AgentGraph(start="a", agents={"a": agent}))
    run, _ = step(run, RunStarted(inputs=()))
    asks = FunctionCall(tool_call_id="c", name="pay", arguments='{"amount":7}')
    run, effects = step(run, ModelReplied(entries=(asks,)))
    [asked] = [effect for effect in effects if isinstance(effect, AskApproval)]
    assert asked.fingerprint == call_fingerprint("a", "pay", {"amount": 7})
    for agent_name, tool, arguments in (("b", "pay", 7), ("a", "send", 7), ("a", "pay", 8)):
        other = call_fingerprint(agent_name, tool, {"amount": arguments})
        with pytest.raises(IllegalTransition, match="another agent, tool or arguments"):
            step(run, ApprovalGiven(call_id="c", fingerprint=other))
    _, effects = step(run, ApprovalGiven(call_id="c", fingerprint=asked.fingerprint))
    assert [type(effect) for effect in effects] == [CallTool]


def about(run: str, call_id: str, turn: int = 1) -> dict[str, Any]:
    return {"run": run, "turn": turn, "call_id": call_id, "agent": "a", "tool": "pay"}


def asked(run: str, call_id: str, arguments: dict[str, JSON] | None = None, turn: int = 1) -> AnyEventData:
    return ApprovalRequestedData(**about(run, call_id, turn), fingerprint="f", arguments=arguments or {})


def settled(kind: str, run: str, call_id: str) -> AnyEventData:
    match kind:
        case "given":
            return ApprovalGivenData(**about(run, call_id))
        case "denied":
            return ApprovalDeniedData(**about(run, call_id))
        case "ended with its run":
            return ResultUnsentData(run=run, call_id=call_id, text="the run was cancelled")
    return ToolReturnedData(**about(run, call_id), result=None)


calls = st.tuples(st.sampled_from(["r0", "r1"]), st.sampled_from(["a", "b", "c"]))
settlements = st.sampled_from(["given", "denied", "ended with its run"])


@given(st.lists(st.tuples(settlements | st.sampled_from(["asked", "asked", "other"]), calls)))
def test_a_call_waits_from_its_request_until_its_decision_or_the_end_of_its_run(story: list[Any]) -> None:
    events: list[AnyEventData] = []
    expected: dict[tuple[str, str], None] = {}
    for kind, (run, call_id) in story:
        match kind:
            case "asked":
                events.append(asked(run, call_id))
                expected[run, call_id] = None
            case "other":
                events.append(settled("returned", run, call_id))
            case _:
                events.append(settled(kind, run, call_id))
                expected.pop((run, call_id), None)
    assert [(one.key.partition("/")[0], one.call_id) for one in asked_in(events).waiting] == list(expected)
    failure = Failure(kind="ValueError", message="no")
    for end in (
        ExecutionCompletedData(result=None),
        ExecutionFailedData(failure=failure),
        ExecutionCancelledData(),
    ):
        assert asked_in([*events, end]).waiting == ()


@given(json_objects)
def test_a_call_that_waits_is_shown_with_its_arguments(arguments: dict[str, JSON]) -> None:
    [waiting] = asked_in([asked("r", "c", arguments, turn=3)]).waiting
    assert (waiting.key, waiting.agent, waiting.tool) == ("r/t3/c", "a", "pay")
    assert canonical(waiting.arguments) == canonical(arguments)


PENDING = [
    PendingApproval(key=key, call_id=call_id, agent="a", tool="t", arguments={}, fingerprint=key)
    for key, call_id in (("r0/t1/x", "x"), ("r1/t1/x", "x"), ("r1/t1/y", "y"))
]
ASKED = AskedCalls(tuple(PENDING))


def test_a_call_is_named_by_its_key_or_by_an_id_that_no_other_has() -> None:
    assert decision_on("e", ASKED, "y", "allow").key == "r1/t1/y"
    assert decision_on("e", ASKED, "r1/t1/x", "deny", "no").fingerprint == "r1/t1/x"
    with pytest.raises(NotPending, match=r"several calls.*r0/t1/x, r1/t1/x") as several:
        decision_on("e", ASKED, "x", "allow")
    assert several.value.ambiguous
    with pytest.raises(NotPending, match=r"no call 'z'.*: r0/t1/x, r1/t1/x, y$"):
        decision_on("e", ASKED, "z", "allow")
    with pytest.raises(NotPending, match="none"):
        decision_on("e", AskedCalls(), "z", "allow")


def test_a_call_is_decided_once_taken_by_a_worker_or_not() -> None:
    events = [asked("r0", "x"), asked("r1", "x"), asked("r1", "y"), settled("denied", "r0", "x")]
    both = asked_in(events)
    sent = decision_on("e", both, "y", "allow", by="Ann")
    found = asked_in(events, [None, sent, sent.with_(verdict="deny")])
    assert [one.key for one in found.waiting] == ["r1/t1/x"]
    assert [(one.key, one.verdict, one.by) for one in found.decided] == [
        ("r0/t1/x", "deny", None),
        ("r1/t1/y", "allow", "Ann"),
    ]
    assert decision_on("e", found, "x", "deny").key == "r1/t1/x"
    with pytest.raises(AlreadyDecided, match=r"already allowed \(by Ann\)"):
        decision_on("e", found, "y", "deny")
    with pytest.raises(AlreadyDecided, match="already denied;"):
        decision_on("e", found, "r0/t1/x", "allow")
    assert asked_in(events, [sent.with_(fingerprint="another")]) == both


def test_only_a_valid_signal_of_that_name_is_a_decision() -> None:
    sent = decision_on("e", ASKED, "y", "allow")
    assert decision_in(DECISION_SIGNAL, sent.model_dump()) == sent
    assert decision_in("pay", sent.model_dump()) is None
    assert decision_in(DECISION_SIGNAL, {"key": "k"}) is None


def test_a_decision_with_a_fingerprint_counts_for_the_call_that_was_shown() -> None:
    assert decision_on("e", ASKED, "y", "allow", fingerprint="r1/t1/y").key == "r1/t1/y"
    with pytest.raises(NotPending, match="not the one that was shown"):
        decision_on("e", ASKED, "y", "allow", fingerprint="r1/t1/x")


@given(json_objects | st.none())
def test_a_decision_comes_back_from_its_message_as_it_was(edited: dict[str, JSON] | None) -> None:
    decision = decision_on("e", ASKED, "y", "allow", "why not", edited)
    assert read_decision(decision.model_dump()) == decision


@pytest.mark.parametrize("edited", [{"x": {1}}, {"x": float("nan")}, {"x": nested(200)}, ["x"]])
def test_edited_arguments_must_be_a_json_object(edited: Any) -> None:
    with pytest.raises(Unserialisable):
        decision_on("e", ASKED, "y", "allow", edited_arguments=edited)


def test_a_decision_that_is_not_valid_is_refused() -> None:
    verdict: Any = "maybe"
    with pytest.raises(DefinitionError, match="maybe"):
        decision_on("e", ASKED, "y", verdict)
    with pytest.raises(DefinitionError, match="reason"):
        decision_on("e", ASKED, "y", "deny", edited_arguments={})
    with pytest.raises(InvalidArguments, match="verdict"):
        read_decision({"key": "k", "fingerprint": "f", "verdict": "maybe"})


# Calls that the server runs ------------------------------------------------------------------------------


def asked_by_server(**options: Any) -> tuple[AgentRun, AskApproval]:
    """Return a run in which the server asks whether it may search, and its question."""
    agent = AgentSpec(name="a", model="m", tools=TOOLS, handoffs=("b",))
    graph = AgentGraph(start="a", agents={"a": agent, "b": AgentSpec(name="b", model="m")})
    run, _ = step(AgentRun(graph=graph, **options), RunStarted(inputs=()))
    wire = {"tool_call_id": "s", "name": "web_search", "arguments": '{"q":"tides"}'}
    asks = FunctionCall.model_validate({**wire, "confirmation_status": "pending"})
    run, effects = step(run, ModelReplied(entries=(asks,)))
    [asked] = [effect for effect in effects if isinstance(effect, AskApproval)]
    assert (asked.tool, asked.arguments) == ("web_search", {"q": "tides"})
    return run, asked


def sent(effects: tuple[Any, ...]) -> tuple[Any, ...]:
    return next(one.entries if isinstance(one, CallModel) else one.unsent for one in effects[::-1])


def test_a_server_tool_that_is_allowed_is_confirmed_and_not_run_by_us() -> None:
    run, asked = asked_by_server()
    _, effects = step(run, ApprovalGiven(call_id="s", fingerprint=asked.fingerprint))
    assert [type(effect) for effect in effects] == [CallModel]
    assert sent(effects) == (ToolConfirmation(tool_call_id="s", confirmation="allow"),)


@pytest.mark.parametrize("raises", [False, True])
def test_a_server_tool_that_is_denied_is_denied_at_the_server(raises: bool) -> None:
    run, asked = asked_by_server(raise_on_tool_fail=raises)
    _, effects = step(run, ApprovalDenied(call_id="s", fingerprint=asked.fingerprint, reason="no"))
    assert isinstance(effects[-1], Fail) == raises
    assert sent(effects) == (ToolConfirmation(tool_call_id="s", confirmation="deny"),)


def test_the_server_runs_what_it_asked_for_or_nothing() -> None:
    run, asked = asked_by_server()
    edited = ApprovalGiven(call_id="s", fingerprint=asked.fingerprint, edited_arguments={"q": "moon"})
    _, effects = step(run, edited)
    [answer] = [effect for effect in effects if isinstance(effect, AnswerCall)]
    assert "no other arguments" in answer.result
    assert sent(effects) == (ToolConfirmation(tool_call_id="s", confirmation="deny"),)


def test_a_run_that_ends_lets_the_server_run_nothing() -> None:
    run, _ = asked_by_server()
    _, effects = step(run, RunCancelled())
    assert sent(effects) == (ToolConfirmation(tool_call_id="s", confirmation="deny"),)


def test_a_tool_of_the_servers_may_be_called_like_a_handoff() -> None:
    agent = AgentSpec(name="a", model="m", handoffs=("b",))
    graph = AgentGraph(start="a", agents={"a": agent, "b": AgentSpec(name="b", model="m")})
    run, _ = step(AgentRun(graph=graph), RunStarted(inputs=()))
    wire = {"tool_call_id": "s", "name": "transfer_to_b", "arguments": "no JSON"}
    asks = FunctionCall.model_validate({**wire, "confirmation_status": "pending"})
    _, effects = step(run, ModelReplied(entries=(asks,)))
    assert [effect.arguments for effect in effects if isinstance(effect, AskApproval)] == [{}]


PAY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "to": {"type": "string", "minLength": 1, "maxLength": 5},
        "amount": {"type": "integer", "minimum": 1, "maximum": 9},
        "how": {"enum": ["cash", "card"]},
        "kind": {"const": "pay"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag~1s"}, "maxItems": 2},
        "rate": {"type": ["number", "null"], "allOf": [{"minimum": 0}]},
        "more": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "codes": {"type": "object", "patternProperties": {"^x": {}}, "additionalProperties": False},
        "free": {"type": "unheard-of", "$ref": "https://elsewhere", "items": True},
    },
    "required": ["to", "amount"],
    "additionalProperties": False,
    "$defs": {"Tag/s": {"type": "string"}},
}


@pytest.mark.parametrize(
    ("edited", "faults"),
    [
        ({}, []),
        ({"to": 1}, ["to: must be of type string"]),
        ({"to": ""}, ["to: must be at least 1 long"]),
        ({"to": "abcdef"}, ["to: must be at most 5 long"]),
        ({"amount": "5"}, ["amount: must be of type integer"]),
        ({"amount": True}, ["amount: must be of type integer"]),
        ({"amount": 5.0}, []),
        ({"amount": 0}, ["amount: must be at least 1"]),
        ({"amount": 10}, ["amount: must be at most 9"]),
        ({"amount": 5.5}, ["amount: must be of type integer"]),
        ({"how": "gold"}, ['how: must be one of ["cash","card"]']),
        ({"how": "card", "kind": "pay"}, []),
        ({"kind": "take"}, ['kind: must be "pay"']),
        ({"note": None}, []),
        ({"note": 3}, ["note: must be of type string; must be of type null"]),
        ({"tags": ["a"]}, []),
        ({"tags": ["a", 1, "c"]}, ["tags: must be at most 2 long", "tags[1]: must be of type string"]),
        ({"rate": None}, []),
        ({"rate": -1}, ["rate: must be at least 0"]),
        ({"rate": "x"}, ["rate: must be of type number or null"]),
        ({"more": {"a": True, "b": 1}}, ["more.b: must be of type boolean"]),
        ({"codes": {"x1": 1}}, []),
        ({"free": [1]}, []),
        ({"whom": "x"}, ["whom: is not a parameter"]),
    ],
)
def test_edited_arguments_must_fit_the_tool(edited: dict[str, Any], faults: list[str]) -> None:
    arguments = {"to": "Ann", "amount": 5, **edited}
    assert faults_in(arguments, PAY) == faults
    (waiting,) = asked_in(
        [ApprovalRequestedData(**about("r", "c", 1), fingerprint="f", parameters=PAY)]
    ).waiting
    if not faults:
        assert (
            decision_on("x", AskedCalls((waiting,)), "c", "allow", None, arguments).edited_arguments
            == arguments
        )
        return
    with pytest.raises(InvalidArguments) as refused:
        decision_on("x", AskedCalls((waiting,)), "c", "allow", None, arguments)
    assert list(refused.value.faults) == faults


def test_missing_arguments_are_named_and_odd_schemas_accept_everything() -> None:
    assert faults_in({}, PAY) == ["to: is missing", "amount: is missing"]
    assert faults_in({}, {"type": "array"}) == ["the arguments: must be of type array"]
    deep = {"type": "object", "properties": {"x": {"$ref": "#/properties/x"}}}
    for schema in ({}, deep, {"properties": 3, "required": 3, "enum": 3, "type": 3, "type2": [3]}):
        assert faults_in({"x": [1]}, schema) == []
    assert faults_in({"x": 1}, {"type": [3]}) == []
    assert faults_in({"x": 1}, {"properties": {"x": {"$ref": "#/a/b/c"}}}) == []


def multiplying(keyword: str, levels: int, end: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose references, written out, would have 2 to the power of `levels` ends."""
    twice = {f"a{n}": {keyword: [{"$ref": f"#/$defs/a{n - 1}"}] * 2} for n in range(1, levels + 1)}
    return {"properties": {"x": {"$ref": f"#/$defs/a{levels}"}}, "$defs": {"a0": end, **twice}}


@given(
    keyword=st.sampled_from(["allOf", "anyOf", "oneOf"]),
    levels=st.integers(13, 28),
    end=st.sampled_from([{}, {"type": "string"}, {"enum": list(range(1000))}, {"const": [1] * 1000}]),
)
def test_a_schema_that_stands_for_endless_work_is_given_up_with_the_faults_so_far(
    keyword: str, levels: int, end: dict[str, Any]
) -> None:
    schema = {"required": ["y"], **multiplying(keyword, levels, end)}
    assert faults_in({"x": 1}, schema)[0] == "y: is missing"


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"enum": list(range(5000))}] * 5000},
        {"allOf": [{"required": ["y"] * 5000}] * 5000},
        {"allOf": [{"$ref": "#" + "/a" * 5000}] * 5000},
        {"allOf": [{"const": "x" * 100_000}] * 5000},
        {"required": [{}, ["y"], None]},
    ],
)
def test_a_schema_that_repeats_itself_is_given_up_too(schema: dict[str, Any]) -> None:
    faults_in({"x": "x" * 100_000}, schema)


CALLS = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"]))


@given(st.lists(st.tuples(CALLS, st.booleans())), CALLS)
def test_a_call_takes_the_first_decision_on_it_that_fits_and_takes_it_alone(
    sent: list[tuple[tuple[str, str], bool]], call: tuple[str, str]
) -> None:
    decisions = Decisions()
    on_call: list[int] = []
    for number, ((key, fingerprint), is_good) in enumerate(sent):
        decisions.keep(Decision(key=key, fingerprint=fingerprint, verdict="allow", reason=str(number)))
        if (key, fingerprint) == call and is_good:
            on_call.append(number)
    good = {str(number) for number, (_, is_good) in enumerate(sent) if is_good}
    for expected in [*on_call, None]:
        awaited = decisions.awaited(*call, lambda one: one.reason in good)
        assert awaited.has_come() == (expected is not None)
        if expected is not None:
            assert awaited.has_come()
            assert awaited.taken.reason == str(expected)


def test_a_call_that_waits_gets_a_decision_that_comes_later() -> None:
    decisions = Decisions()
    awaited = decisions.awaited("a", "1", lambda one: True)
    assert not awaited.has_come()
    decision = Decision(key="a", fingerprint="1", verdict="deny")
    decisions.keep(decision)
    assert awaited.has_come()
    assert awaited.taken == decision
