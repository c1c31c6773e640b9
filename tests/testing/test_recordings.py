"""Recorded runs as tests: replay against today's code, a fork from a turn on, the difference of two runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast import workflow
from outlast.core.errors import CannotRerun, DefinitionError, NonDeterminismError
from outlast.core.usage import Usage
from outlast.ports.llm import ModelReply
from outlast.testing import (
    Environment,
    ModelCall,
    Reply,
    ScriptedSession,
    call,
    compare,
    fail,
    forbid_model_calls,
    handoff,
    override,
    replay,
    say,
)

rated: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_rated() -> Iterator[None]:
    rated.clear()
    yield
    rated.clear()


@outlast.activity(retry_policy_max_attempts=1)
async def rate(company: str) -> int:
    """Rate a company."""
    rated.append(company)
    if company == "unknown":
        raise LookupError("no such company")
    return len(company)


@outlast.activity
async def file_away(text: str) -> str:
    """Keep a text."""
    return f"kept {text}"


def define(run: Callable[[Any, str], Any]) -> type[Any]:
    """Return today's workflow "recorded", with this entrypoint."""
    return workflow.define(name="recorded")(type("Recorded", (), {"run": workflow.entrypoint(run)}))


async def advise(self: Any, company: str) -> str:
    poet = outlast.Agent(model="small", name="poet")
    adviser = outlast.Agent(model="medium", name="adviser", tools=[rate], handoffs=[poet])
    result = await outlast.Runner.run(adviser, company, outlast.RemoteSession())
    return str(await file_away(result.text))


SCRIPT: dict[str, list[Reply]] = {
    "adviser": [call("rate", {"company": "ACME"}), call("rate", {"company": "unknown"}), handoff("poet")],
    "poet": ["Buy, oh buy."],
}


async def export_of(env: Environment, session: ScriptedSession, *, id: str = "acme") -> Sequence[str]:
    with override(session=session):
        execution = await env.start(define(advise), "ACME", id=id)
        await execution.result()
    return await execution.export()


async def test_a_replay_does_nothing_and_returns_what_happened(env: Environment) -> None:
    lines = await export_of(env, ScriptedSession(SCRIPT))
    effects = len(env.effects)
    rated.clear()
    with forbid_model_calls():
        recording = replay(lines)
    assert (rated, len(env.effects)) == ([], effects)
    assert (recording.id, recording.workflow, recording.status) == ("acme", "recorded", "completed")
    assert recording.arguments == {"company": "ACME"}
    assert recording.result == "kept Buy, oh buy."
    assert [(one.run, one.number, one.agent, one.model) for one in recording.turns] == [
        (1, 1, "adviser", "medium"),
        (1, 2, "adviser", "medium"),
        (1, 3, "adviser", "medium"),
        (1, 4, "poet", "small"),
    ]
    first, second = recording.turns[0].calls[0], recording.turns[1].calls[0]
    assert (first.name, first.arguments, first.result, first.error) == ("rate", {"company": "ACME"}, 4, None)
    assert (second.result, second.error) == (None, "LookupError: no such company")
    assert recording.turns[2].handed_off_to == "poet"
    assert recording.turns[3].text == "Buy, oh buy."
    assert [str(one) for one in recording.activities] == [
        'calls file_away {"text":"Buy, oh buy."}: "kept Buy, oh buy."'
    ]


async def test_a_recording_in_words(env: Environment) -> None:
    assert str(replay(await export_of(env, ScriptedSession(SCRIPT)))).splitlines() == [
        "execution 'acme' of workflow 'recorded'",
        "arguments",
        '  company: "ACME"',
        "turn 1",
        "  adviser, medium",
        '  calls rate {"company":"ACME"}: 4',
        "turn 2",
        "  adviser, medium",
        '  calls rate {"company":"unknown"}: failed, LookupError: no such company',
        "turn 3",
        "  adviser, medium",
        "  hands off to poet",
        "turn 4",
        "  poet, small",
        "  says: Buy, oh buy.",
        "activities",
        '  calls file_away {"text":"Buy, oh buy."}: "kept Buy, oh buy."',
        "end",
        "  completed",
        '  "kept Buy, oh buy."',
    ]


async def ask_first(self: Any, company: str) -> str:
    adviser = outlast.Agent(model="medium", name="adviser", tools=[rate], requires_approval={"rate": True})
    return (await outlast.Runner.run(adviser, company, outlast.RemoteSession())).text


async def test_a_recording_has_a_call_that_a_person_has_denied(env: Environment) -> None:
    script: dict[str, list[Reply]] = {"adviser": [call("rate", {"company": "ACME"}), say("Nobody lets me.")]}
    with override(session=ScriptedSession(script)):
        execution = await env.start(define(ask_first), "ACME")
        async for event in execution.events():
            if event.kind == "approval_requested":
                [waiting] = await execution.pending()
                await execution.decide(waiting.call_id, "deny", "not today")
    [denied] = replay(await execution.export()).turns[0].calls
    assert (denied.name, denied.arguments, denied.result) == ("rate", {"company": "ACME"}, None)
    assert "not today" in str(denied.error)
    assert rated == []


def test_a_file_replays_without_an_event_loop(tmp_path: Path) -> None:
    async def record() -> Sequence[str]:
        async with Environment() as env:
            return await export_of(env, ScriptedSession(SCRIPT))

    file = tmp_path / "run.jsonl"
    file.write_text("\n".join(asyncio.run(record())) + "\n")
    assert replay(str(file)) == replay(file)


async def test_code_that_departs_is_shown_with_the_difference(env: Environment) -> None:
    lines = await export_of(env, ScriptedSession(SCRIPT))

    async def shout(self: Any, company: str) -> str:
        poet = outlast.Agent(model="small", name="poet")
        adviser = outlast.Agent(model="medium", name="adviser", tools=[rate], handoffs=[poet])
        result = await outlast.Runner.run(adviser, company, outlast.RemoteSession())
        return str(await file_away(result.text.upper()))

    define(shout)
    with pytest.raises(NonDeterminismError) as departed:
        replay(lines)
    assert departed.value.execution_id == "acme"
    assert '"Buy, oh buy."' in str(departed.value)
    assert '"BUY, OH BUY."' in str(departed.value)


async def test_code_that_ends_otherwise_departs(env: Environment) -> None:
    lines = await export_of(env, ScriptedSession(SCRIPT))

    async def forget(self: Any, company: str) -> str:
        await advise(self, company)
        return ""

    define(forget)
    with pytest.raises(NonDeterminismError, match="end as completed"):
        replay(lines)


async def test_a_failed_run_and_one_that_goes_on_replay(env: Environment) -> None:
    with override(session=ScriptedSession({"adviser": [fail(400)]})):
        failed = await env.start(define(advise), "ACME", id="failed")
        with pytest.raises(outlast.ExecutionFailed):
            await failed.result()
    recording = replay(await failed.export())
    assert (recording.status, recording.result) == ("failed", None)
    assert recording.error is not None
    assert recording.turns[0].error is not None
    cut = (await export_of(env, ScriptedSession(SCRIPT)))[:5]
    header = cut[0].replace('"records":', '"records":4,"x":').partition(',"x"')[0] + "}"
    recording = replay([header, *cut[1:]])
    assert (recording.status, str(recording.turns[0].calls[0])) == (
        "running",
        'calls rate {"company":"ACME"}',
    )


async def test_a_fork_goes_on_from_a_turn_with_another_session(env: Environment) -> None:
    before = await export_of(env, ScriptedSession(SCRIPT))
    rated.clear()
    asked: list[ModelCall] = []

    def sceptic(seen: ModelCall) -> str:
        asked.append(seen)
        return "Sell."

    with override(session=ScriptedSession(sceptic)):
        execution = await env.fork(before, turn=2)
        assert await execution.result() == "kept Sell."
    assert rated == []
    assert list(asked[0].results.values()) == ["4"]
    difference = compare(before, await execution.export())
    assert difference.parts == ("turn 2", "turn 3", "turn 4", "activities", "end")
    assert str(difference).splitlines() == [
        f"'acme' and {execution.id!r} differ in turn 2, turn 3, turn 4, activities, end",
        "turn 2",
        "    adviser, medium",
        '  - calls rate {"company":"unknown"}: failed, LookupError: no such company',
        "  + says: Sell.",
        "turn 3",
        "  - adviser, medium",
        "  - hands off to poet",
        "turn 4",
        "  - poet, small",
        "  - says: Buy, oh buy.",
        "activities",
        '  - calls file_away {"text":"Buy, oh buy."}: "kept Buy, oh buy."',
        '  + calls file_away {"text":"Sell."}: "kept Sell."',
        "end",
        "    completed",
        '  - "kept Buy, oh buy."',
        '  + "kept Sell."',
    ]


async def test_a_fork_runs_with_a_changed_prompt_and_model(env: Environment) -> None:
    before = await export_of(env, ScriptedSession(SCRIPT))

    async def advise_in_french(self: Any, company: str) -> str:
        poet = outlast.Agent(model="large", name="poet", instructions="Answer in French.")
        adviser = outlast.Agent(model="large", name="adviser", tools=[rate], handoffs=[poet])
        return (await outlast.Runner.run(adviser, company, outlast.RemoteSession())).text

    def french(seen: ModelCall) -> str:
        return "Achetez." if "French" in seen.all_instructions else "Buy."

    define(advise_in_french)
    with override(session=ScriptedSession(french)):
        execution = await env.fork(before, turn=4)
        assert await execution.result() == "Achetez."
    difference = compare(before, await execution.export())
    assert difference.parts == ("turn 4", "activities", "end")
    assert "  - poet, small\n" in str(difference)
    assert "  + poet, large\n" in str(difference)


async def test_runs_that_differ_in_ids_and_times_alone_do_not_differ(env: Environment) -> None:
    one = await export_of(env, ScriptedSession(SCRIPT))
    await env.skip(days=1)
    script = {**SCRIPT, "adviser": [fail(429), *SCRIPT["adviser"]]}
    other = replay(await export_of(env, ScriptedSession(script), id="other"))
    difference = compare(one, other)
    assert not difference
    assert str(difference) == "'acme' and 'other' do not differ"


async def test_the_usage_is_a_difference(env: Environment) -> None:
    async def export(id: str, tokens: int) -> Sequence[str]:
        usage = Usage(prompt_tokens=tokens, completion_tokens=1, total_tokens=tokens + 1)
        reply = ModelReply(entries=(say("Buy."),), usage=usage)
        return await export_of(env, ScriptedSession({"adviser": [reply]}), id=id)

    difference = compare(await export("one", 9), await export("other", 19))
    assert difference.parts == ("usage",)
    assert (difference.before.usage.total_tokens, difference.after.turns[0].usage.total_tokens) == (10, 20)
    assert "- 10 tokens" in str(difference)


async def test_turns_are_counted_in_each_run(env: Environment) -> None:
    async def ask_twice(self: Any, company: str) -> list[str]:
        adviser = outlast.Agent(model="m", name="adviser")
        return [(await outlast.Runner.run(adviser, company, outlast.RemoteSession())).text for _ in range(2)]

    with override(session=ScriptedSession({"adviser": ["Buy."]})):
        execution = await env.start(define(ask_twice), "ACME", id="twice")
        assert await execution.result() == ["Buy.", "Buy."]
    before = await execution.export()
    with override(session=ScriptedSession({"adviser": ["Sell."]})):
        execution = await env.fork(before, turn=1, run=2)
        assert await execution.result() == ["Buy.", "Sell."]
    assert compare(before, await execution.export()).parts == ("run 2, turn 1", "end")
    with pytest.raises(CannotRerun, match="no turn 2 in run 1; it has turn 1 of run 1, turn 1 of run 2"):
        await env.fork(before, turn=2)


async def test_a_run_outside_any_workflow_needs_its_agent(env: Environment) -> None:
    agent = outlast.Agent(model="small", name="adviser", tools=[rate])
    script: dict[str, list[Reply]] = {"adviser": [call("rate", {"company": "ACME"}), "Buy."]}
    await outlast.Runner.run(agent, "ACME", ScriptedSession(script), id="run", backend=env.backend)
    lines = await (await env.backend.get("run")).export()
    with pytest.raises(DefinitionError, match="give it as `agent="):
        replay(lines)
    assert [one.text for one in replay(lines, agent=agent).turns] == ["", "Buy."]
    with pytest.raises(NonDeterminismError):
        replay(lines, agent=outlast.Agent(model="small", name="other"))
    larger = outlast.Agent(model="large", name="adviser", tools=[rate])
    with override(session=ScriptedSession({"adviser": ["never asked for", "Sell."]})):
        execution = await env.fork(lines, turn=2, agent=larger)
        await execution.result()
    assert compare(lines, await execution.export()).parts == ("turn 2",)
    lines = await export_of(env, ScriptedSession(SCRIPT))
    with pytest.raises(DefinitionError, match="leave out `agent`"):
        replay(lines, agent=agent)


async def test_a_script_begins_after_the_replies_of_a_real_model(env: Environment) -> None:
    lines = [
        line.replace('"handle":{"replies":', '"handle":{"conversation_id":')
        for line in await export_of(env, ScriptedSession(SCRIPT))
    ]
    with override(session=ScriptedSession({"adviser": ["Sell."]})):
        assert await (await env.fork(lines, turn=2)).result() == "kept Sell."


async def test_a_recording_from_another_queue_goes_on_here(env: Environment) -> None:
    lines = await export_of(env, ScriptedSession(SCRIPT))
    elsewhere = [lines[0].replace('"task_queue":"default"', '"task_queue":"gpu"'), *lines[1:]]
    assert elsewhere != lines
    with override(session=ScriptedSession(SCRIPT)):
        assert await (await env.fork(elsewhere, turn=4)).result() == "kept Buy, oh buy."


async def test_what_is_not_one_export_is_refused(env: Environment, tmp_path: Path) -> None:
    lines = await export_of(env, ScriptedSession(SCRIPT))
    with pytest.raises(CannotRerun, match="there are 2 exports"):
        replay([*lines, *lines])
    with pytest.raises(CannotRerun, match="is not whole"):
        replay(lines[:-1])
    (tmp_path / "run.jsonl").write_bytes(b"\xff")
    with pytest.raises(CannotRerun, match="not text in UTF-8"):
        replay(tmp_path / "run.jsonl")
    unknown = [line.replace('"workflow":"recorded"', '"workflow":"unheard of"') for line in lines]
    with pytest.raises(DefinitionError, match="import the module that defines it"):
        replay(unknown)
