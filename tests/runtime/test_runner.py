"""Running agents: in workflows, in plain scripts, and durably by an id."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator

import outlast
from outlast import testing
from outlast.adapters.scripted import call, handoff, say
from outlast.core.entries import Entry
from outlast.core.errors import DefinitionError, ModelRefused
from outlast.core.events import AttemptFailedData, EventKind, ToolCalledData
from outlast.testing.contracts.durability.stage import data_of

ran: list[str] = []
hanging = asyncio.Event()
"""Holds up `runner_hang`."""


@outlast.activity(name="runner_add")
async def add(left: int, right: int) -> int:
    """Add two numbers."""
    ran.append(outlast.activity.info().idempotency_key)
    return left + right


@outlast.activity(name="runner_fail", retry_policy_max_attempts=1)
async def fail(why: str) -> str:
    """Fail."""
    raise ValueError(why)


@outlast.activity(name="runner_hang")
async def hang() -> str:
    """Never return."""
    await hanging.wait()
    return "at last"


read: list[int] = []


def taken_down(number: int) -> int:
    read.append(number)
    return number


@outlast.activity(name="runner_reader", retry_policy_initial_interval=timedelta(0))
async def reader(number: Annotated[int, AfterValidator(taken_down)]) -> int:
    """Return how often the number was read, at the second attempt."""
    if outlast.activity.info().attempt == 1:
        raise ValueError(str(len(read)))
    return len(read)


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def agent(name: str = "solo", **more: Any) -> outlast.Agent:
    return outlast.Agent(model="m", name=name, **{"tools": [add, fail, hang, shout], **more})


@outlast.workflow.define(name="runner_script")
class Script:
    """Runs one agent on a script that the test leaves in `scripts`."""

    @outlast.workflow.entrypoint
    async def run(self, script: str, inputs: str, raise_on_tool_fail: bool = False) -> dict[str, Any]:
        session = outlast.ScriptedSession(
            scripts[script], raise_on_tool_fail=raise_on_tool_fail, may_call_unknown_tools=True
        )
        result = await outlast.Runner.run(agent(), inputs, session)
        return {"text": result.text, "turns": result.turns, "entries": wire(result.entries)}


scripts: dict[str, Any] = {}


def wire(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [entry.to_wire() for entry in entries]


async def run_in_memory(workflow: type[Any], *args: Any) -> tuple[outlast.Execution, Any]:
    async with outlast.connect("memory:") as backend:
        execution = await backend.start(workflow, *args)
        async with backend.worker([workflow]):
            return execution, await execution.result()


async def test_tools_run_at_once_and_are_answered_in_call_order() -> None:
    scripts["parallel"] = {
        "solo": [
            [call("runner_add", {"left": 1, "right": 2}), call("shout", {"text": "hey"}), call("nothing")],
            say("done"),
        ]
    }
    _, result = await run_in_memory(Script, "parallel", "go")
    answers = [entry["result"] for entry in result["entries"] if entry["type"] == "function.result"]
    assert answers[:2] == ["3", "HEY"]
    assert "has no tool named 'nothing'" in answers[2]
    assert (result["text"], result["turns"]) == ("done", 2)


async def test_arguments_are_read_when_a_call_is_made_and_not_again_for_its_first_attempt() -> None:
    @outlast.workflow.define(name="runner_reading")
    class Reading:
        @outlast.workflow.entrypoint
        async def run(self) -> list[str]:
            session = outlast.ScriptedSession({"solo": [call("runner_reader", {"number": 7}), say("done")]})
            result = await outlast.Runner.run(agent(tools=[reader]), "go", session)
            read.clear()
            return [wire(result.entries)[2]["result"], str(await reader(7))]

    read.clear()
    execution, result = await run_in_memory(Reading)
    failures = data_of([event async for event in execution.events()], AttemptFailedData)
    # Arguments of a model are read, and read again as the journal keeps them; those of code only as kept.
    assert [data.failure.message for data in failures] == ["2", "1"]
    assert result == ["3", "2"]


async def test_a_call_may_have_any_id_also_that_of_another_step() -> None:
    ids = ("model", "t1/model", "../model")
    calls = [call("runner_add", {"left": 1, "right": 2}, call_id=call_id) for call_id in ids]
    scripts["odd ids"] = {"solo": [calls, say("done")]}
    execution, result = await run_in_memory(Script, "odd ids", "go")
    answers = [entry for entry in result["entries"] if entry["type"] == "function.result"]
    assert [(answer["tool_call_id"], answer["result"]) for answer in answers] == [(name, "3") for name in ids]
    called = data_of([event async for event in execution.events()], ToolCalledData)
    assert [(data.run, data.turn, data.call_id) for data in called] == [("run:0", 1, name) for name in ids]


async def test_the_failure_of_a_tool_is_sent_to_the_model() -> None:
    scripts["failing"] = {"solo": [call("runner_fail", {"why": "no luck"}), say("I see")]}
    _, result = await run_in_memory(Script, "failing", "go")
    (answer,) = [entry["result"] for entry in result["entries"] if entry["type"] == "function.result"]
    assert "no luck" in answer
    assert "ValueError" in answer


async def test_a_failing_tool_ends_the_run_if_the_session_says_so() -> None:
    scripts["strict"] = {"solo": [[call("runner_hang"), call("runner_fail", {"why": "no luck"})]]}
    with pytest.raises(outlast.ExecutionFailed) as failed:
        await run_in_memory(Script, "strict", "go", True)
    assert isinstance(failed.value.__cause__, outlast.ToolFailed)


async def test_a_handoff_goes_on_with_the_other_agent_and_its_tools_only() -> None:
    helper = agent("helper", tools=[shout])
    front = agent("front", tools=[add], handoffs=[helper])
    session = outlast.ScriptedSession(
        {
            "front": [handoff("helper")],
            "helper": [
                call("runner_add", {"left": 1, "right": 1}),
                call("shout", {"text": "hi"}),
                say("bye"),
            ],
        },
        may_call_unknown_tools=True,
    )
    result = await outlast.Runner.run(front, "go", session)
    assert result.agent is helper
    answers = [entry["result"] for entry in wire(result.entries) if entry["type"] == "function.result"]
    assert answers[0] == '{"handed_off_to":"helper"}'
    assert "agent 'helper' has no tool named 'runner_add'" in answers[1]
    assert answers[2] == "HI"


async def test_agents_may_hand_off_in_circles_until_max_turns() -> None:
    ping: outlast.Agent = agent("ping", handoffs=[lambda: pong])
    pong: outlast.Agent = agent("pong", handoffs=["ping"])
    session = outlast.ScriptedSession({"ping": [handoff("pong")] * 9, "pong": [handoff("ping")] * 9})
    with pytest.raises(outlast.MaxTurnsExceeded) as exceeded:
        await outlast.Runner.run(ping, "go", session, max_turns=5)
    calls = [entry for entry in wire(exceeded.value.entries) if entry["type"] == "function.call"]
    assert len(calls) == 5


async def test_a_session_used_again_goes_on_with_its_conversation() -> None:
    requests: list[list[str]] = []

    def listen(request: Any) -> str:
        requests.append([entry.type for entry in (*request.history, *request.new)])
        return f"reply {len(requests)}"

    session = outlast.ScriptedSession(listen)
    await outlast.Runner.run(agent(), "one", session)
    await outlast.Runner.run(agent(), "two", session)
    assert requests[1] == ["message.input", "message.output", "message.input"]


async def test_a_session_of_the_module_starts_afresh_in_every_execution() -> None:
    shared = outlast.ScriptedSession(lambda request: f"{len(request.history)} before")

    @outlast.workflow.define(name="runner_shared")
    class Shared:
        @outlast.workflow.entrypoint
        async def run(self) -> list[str]:
            return [(await outlast.Runner.run(agent(), "hi", shared)).text for _ in range(2)]

    async with outlast.connect("memory:") as backend, backend.worker([Shared]):
        for _ in range(2):
            assert await (await backend.start(Shared)).result() == ["0 before", "2 before"]


async def test_runs_at_the_same_time_need_sessions_of_their_own() -> None:
    session = outlast.ScriptedSession(lambda request: "ok")
    first = asyncio.create_task(outlast.Runner.run(agent(), "one", session))
    with pytest.raises(DefinitionError, match="used by another run"):
        await asyncio.gather(first, outlast.Runner.run(agent(), "two", session))
    await first


async def test_parallel_runs_in_one_workflow_do_not_disturb_each_other() -> None:
    @outlast.workflow.define(name="runner_gather")
    class Gather:
        @outlast.workflow.entrypoint
        async def run(self) -> list[str]:
            script: dict[str, Any] = {"solo": [call("runner_add", {"left": 1, "right": 1}), say("two")]}
            runs = (outlast.Runner.run(agent(), "go", outlast.ScriptedSession(script)) for _ in range(3))
            return [result.text for result in await asyncio.gather(*runs)]

    _, texts = await run_in_memory(Gather)
    assert texts == ["two"] * 3


async def test_cancelling_closes_the_open_calls_in_the_same_write() -> None:
    @outlast.workflow.define(name="runner_cancelled")
    class Cancelled:
        @outlast.workflow.entrypoint
        async def run(self) -> str:
            session = outlast.ScriptedSession(
                lambda request: (
                    call("runner_hang")
                    if not request.history
                    else say(" ".join(entry.type for entry in (*request.history, *request.new)))
                )
            )
            try:
                await outlast.Runner.run(agent(), "go", session)
            except asyncio.CancelledError:
                return (await outlast.Runner.run(agent(), "what was that?", session)).text
            return "not cancelled"

    async with outlast.connect("memory:") as backend:
        execution = await backend.start(Cancelled)
        async with backend.worker([Cancelled]):
            async for event in execution.events():
                if event.kind == "tool_called":
                    await execution.cancel()
                    break
            text = await execution.result()
        kinds = [event.kind async for event in execution.events()]
    assert text == "message.input function.call function.result message.input"
    assert kinds.index(EventKind.RESULT_UNSENT) == kinds.index(EventKind.CANCEL_REQUESTED) + 1


async def test_a_refused_model_call_ends_the_run() -> None:
    with pytest.raises(ModelRefused):
        await outlast.Runner.run(agent(), "go", outlast.ScriptedSession({"solo": [testing.fail(404)]}))


@pytest.mark.parametrize("inputs", ["", "  ", [], [{"nonsense": 1}], 7, None])
async def test_empty_or_meaningless_input_is_refused_before_anything_happens(inputs: Any) -> None:
    with pytest.raises(DefinitionError):
        await outlast.Runner.run(
            agent(), inputs, outlast.ScriptedSession(lambda request: pytest.fail("was asked"))
        )


async def test_max_turns_below_one_is_refused() -> None:
    with pytest.raises(DefinitionError, match="max_turns"):
        await outlast.Runner.run(agent(), "go", outlast.ScriptedSession({}), max_turns=0)


async def test_a_durable_run_returns_its_result_again_without_asking_the_model(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    asked: list[int] = []

    def reply(request: Any) -> Any:
        asked.append(request.turn)
        return call("runner_add", {"left": 2, "right": 3}) if request.turn == 1 else say("five")

    session = outlast.ScriptedSession(reply)
    first = await outlast.Runner.run(agent(), "go", session, id="q-1", backend=url)
    again = await outlast.Runner.run(agent(), "go", session, id="q-1", backend=url)
    assert (first.text, again.text, asked) == ("five", "five", [1, 2])
    assert wire(first.entries) == wire(again.entries)
    with pytest.raises(outlast.ExecutionAlreadyExists):
        await outlast.Runner.run(agent(), "something else", session, id="q-1", backend=url)


async def test_every_waiter_for_one_durable_run_in_one_process_gets_its_answer(tmp_path: Any) -> None:
    asked: list[int] = []

    def reply(request: Any) -> Any:
        asked.append(request.turn)
        return call("runner_add", {"left": 2, "right": 3}) if request.turn == 1 else say("five")

    url = f"sqlite:///{tmp_path}/runs.db"
    session = outlast.ScriptedSession(reply)
    async with outlast.connect(url) as shared:
        backends: list[Any] = [shared, shared, url, url]
        results = await asyncio.gather(
            *(outlast.Runner.run(agent(), "go", session, id="q-1", backend=one) for one in backends)
        )
    assert [result.text for result in results] == ["five"] * len(backends)
    assert len({str(wire(result.entries)) for result in results}) == 1
    assert sorted(asked) == [1, 2]


async def test_a_waiter_that_gives_up_does_not_stop_a_durable_run(tmp_path: Any) -> None:
    gate, session = asyncio.Event(), outlast.ScriptedSession(lambda request: say("done"))

    @outlast.activity(name="runner_behind_a_gate")
    async def wait(text: str) -> None:
        await gate.wait()

    gated = outlast.Agent(model="m", name="gated", input_guardrails=[wait])
    url = f"sqlite:///{tmp_path}/runs.db"
    first, second = (
        asyncio.create_task(outlast.Runner.run(gated, "go", session, id="q-1", backend=url)) for _ in range(2)
    )
    async with outlast.connect(url) as backend, asyncio.timeout(30):
        async for event in (await soon(backend, "q-1")).events():
            if event.kind == "activity_started":
                break
        first.cancel()
        await asyncio.wait([first])
        gate.set()
        assert (await second).text == "done"


async def soon(backend: Any, id: str) -> Any:
    """Return the execution, once it exists."""
    while True:
        try:
            return await backend.get(id)
        except outlast.ExecutionNotFound:
            await asyncio.sleep(0)


async def test_a_durable_run_goes_on_where_it_was_interrupted(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    ran.clear()
    asked: list[int] = []

    def reply(request: Any) -> Any:
        asked.append(request.turn)
        match request.turn:
            case 1:
                return call("runner_add", {"left": 2, "right": 3})
            case 2:
                return call("runner_hang")
            case _:
                return say("done")

    def run() -> Any:
        return outlast.Runner.run(agent(), "go", outlast.ScriptedSession(reply), id="q-2", backend=url)

    first = asyncio.create_task(run())
    async with outlast.connect(url) as backend:
        await first_event(backend, "q-2", "tool_called", tool="runner_hang")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    hanging.set()
    try:
        result = await run()
    finally:
        hanging.clear()
    assert (result.text, len(ran), asked) == ("done", 1, [1, 2, 3])


async def first_event(backend: outlast.Backend, execution_id: str, kind: str, **data: Any) -> None:
    """Return once the execution exists and such an event is in its stream."""
    async with asyncio.timeout(30):
        while execution_id not in [found.id for found in await backend.list()]:  # noqa: ASYNC110
            await asyncio.sleep(0)  # another connection makes it, and does not announce its id
        async for event in (await backend.get(execution_id)).events():
            if event.kind == kind and data.items() <= event.data.to_data().items():
                return


async def test_a_durable_run_that_exceeds_its_turns_raises_the_same_again(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    session = outlast.ScriptedSession(lambda request: call("shout", {"text": "again"}))
    for _ in range(2):
        with pytest.raises(outlast.MaxTurnsExceeded) as exceeded:
            await outlast.Runner.run(agent(), "go", session, max_turns=2, id="q-3", backend=url)
        assert len(exceeded.value.entries) >= 4


async def test_id_and_backend_go_together_outside_workflows_and_are_refused_inside() -> None:
    with pytest.raises(DefinitionError, match="give id="):
        await outlast.Runner.run(agent(), "go", outlast.ScriptedSession({}), backend="memory:")

    @outlast.workflow.define(name="runner_nested")
    class Nested:
        @outlast.workflow.entrypoint
        async def run(self) -> str:
            return (await outlast.Runner.run(agent(), "go", outlast.ScriptedSession({}), id="x")).text

    with pytest.raises(outlast.ExecutionFailed, match="durable already"):
        await run_in_memory(Nested)


replies = st.lists(
    st.lists(
        st.one_of(
            st.text(max_size=5).map(say),
            st.builds(
                call,
                st.just("runner_add"),
                st.fixed_dictionaries({"left": st.integers(0, 9), "right": st.integers(0, 9)}),
                call_id=st.sampled_from(["", "model", "t1/model", "one"]),
            ),
            st.builds(call, st.just("runner_add"), st.just({"left": "no"})),
            st.builds(call, st.just("shout"), st.fixed_dictionaries({"text": st.text(max_size=3)})),
            st.builds(
                call, st.sampled_from(["runner_fail", "unknown", "transfer_to_x"]), st.just({"why": "x"})
            ),
            st.builds(call, st.just("shout"), st.sampled_from(["{", "[1]", '{"text": NaN}'])),
        ),
        min_size=1,
        max_size=3,
    ),
    max_size=4,
)


@given(script=replies)
async def test_a_run_in_a_workflow_and_a_plain_run_have_the_same_transcript(script: list[Any]) -> None:
    whole = {"solo": [*script, say("end")]}
    scripts["random"] = whole
    _, durable = await run_in_memory(Script, "random", "go")
    session = outlast.ScriptedSession(whole, may_call_unknown_tools=True)
    plain = await outlast.Runner.run(agent(), "go", session)
    assert durable["entries"] == wire(plain.entries)
    assert durable["turns"] == plain.turns


async def test_a_turn_costs_the_same_however_long_the_conversation_is() -> None:
    """Counted in calls of Python functions, so that it does not depend on the machine."""
    made = 0
    at_turn: list[int] = []

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal made
        made += event == "call"

    def reply(request: Any) -> Any:
        at_turn.append(made)
        return say("done") if request.turn == 120 else call("shout", {"text": "hey"})

    session = outlast.ScriptedSession(reply)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        await outlast.Runner.run(agent(), "go", session, max_turns=120)
    finally:
        sys.setprofile(before)
    early = at_turn[20] - at_turn[10]
    late = at_turn[119] - at_turn[109]
    assert late <= early * 1.1
