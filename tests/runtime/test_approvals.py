"""The calls that need approval, and the effect of decisions; the contract has the tests of the waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast.adapters.memory.store import MemoryStore
from outlast.adapters.scripted import call, say
from outlast.core.approvals import DECISION_SIGNAL, Decision
from outlast.core.errors import DefinitionError, InvalidArguments, NotSupported
from outlast.core.events import ApprovalRequestedData
from outlast.ports.journal import Message
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.runtime.definitions.activity_source import ActivitySource
from outlast.runtime.executions.inbox_messages import SignalMessage
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing import replay

sent: list[str] = []


@outlast.activity(name="mail", requires_approval=True)
async def mail(to: str) -> str:
    """Send a mail."""
    sent.append(to)
    return f"sent to {to}"


@outlast.activity(name="post")
async def post(to: str) -> str:
    """Send a letter."""
    sent.append(to)
    return f"posted to {to}"


def wave(to: str) -> str:
    """Wave at somebody."""
    sent.append(to)
    return f"waved at {to}"


@outlast.workflow.define(name="approvals.errand")
class Errand:
    """Runs the agent that the test leaves in `agents`, which calls one tool."""

    @outlast.workflow.entrypoint
    async def run(self, agent: str, tool: str) -> str:
        session = outlast.ScriptedSession({"clerk": [call(tool, {"to": "Ann"}), say("Done.")]})
        result = await outlast.Runner.run(agents[agent], "Go.", session)
        [answer] = [entry for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
        return answer.result


agents: dict[str, outlast.Agent] = {}


def clerk(**more: Any) -> outlast.Agent:
    return outlast.Agent(model="m", name="clerk", **more)


async def outcome(agent: outlast.Agent, tool: str) -> tuple[str, list[str]]:
    """Return the answer to one call, allowed if anybody is asked; and the kinds of events about it."""
    sent.clear()
    agents["one"] = agent
    async with outlast.connect("memory:") as backend, backend.worker([Errand]):
        execution = await backend.start(Errand, "one", tool)
        kinds: list[str] = []
        async for event in execution.events():
            kinds.append(event.kind)
            if event.kind == "approval_requested":
                assert sent == []
                [waiting] = await execution.pending()
                await execution.decide(waiting.call_id, "allow")
        about_call = [kind for kind in kinds if kind.startswith(("approval", "tool"))]
        return await execution.result(), about_call


ASKED = ["approval_requested", "approval_given", "tool_called", "tool_returned"]
NOT_ASKED = ["tool_called", "tool_returned"]


@pytest.mark.parametrize("tool", ["mail", "post", "wave"])
async def test_an_agent_says_of_tools_of_any_kind_whether_they_need_approval(tool: str) -> None:
    agent = clerk(tools=[wave, post, ActivitySource(mail)], requires_approval={tool: True})
    assert (await outcome(agent, tool))[1] == ASKED
    for answer in (False, lambda arguments: arguments["to"] != "Ann"):
        agent = clerk(tools=[wave, post, ActivitySource(mail)], requires_approval={tool: answer})
        assert (await outcome(agent, tool))[1] == NOT_ASKED


async def test_an_activity_says_so_for_every_agent_also_through_a_source() -> None:
    assert (await outcome(clerk(tools=[mail]), "mail"))[1] == ASKED
    assert (await outcome(clerk(tools=[ActivitySource(mail)]), "mail"))[1] == ASKED


async def test_a_check_that_fails_lets_nothing_through_and_its_error_is_logged_with_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def check(arguments: Any) -> bool:
        raise LookupError("no such price")

    answer, kinds = await outcome(clerk(tools=[post], requires_approval={"post": check}), "post")
    assert "LookupError: no such price" in answer
    assert kinds == ["approval_denied", "tool_failed"]
    assert sent == []
    [logged] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "the check whether a call of 'post' needs approval failed:" in logged
    assert "test_approvals.py" in logged
    assert "LookupError: no such price" in logged


async def test_a_replay_does_not_log_again_that_a_check_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    def check(arguments: Any) -> bool:
        raise LookupError("no such price")

    agents["one"] = clerk(tools=[post], requires_approval={"post": check})
    async with outlast.connect("memory:") as backend:
        async with backend.worker([Errand]):
            execution = await backend.start(Errand, "one", "post")
            await execution.result()
        journal = await execution.export()
    caplog.clear()
    assert "no such price" in str(replay(journal).result)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_approval_of_a_tool_that_is_not_there_is_refused_before_anything_happens() -> None:
    later = outlast.AgentTool(lambda: outlast.Agent(model="m", name="other"))
    agents["one"] = clerk(tools=[post, later], requires_approval={"pots": True})
    async with outlast.connect("memory:") as backend, backend.worker([Errand]):
        with pytest.raises(outlast.ExecutionFailed, match=r"'pots'.*its tools: .*post"):
            await (await backend.start(Errand, "one", "post")).result()


async def ask(arguments: Any) -> bool:
    return True


@pytest.mark.parametrize("approval", ["yes", None, 1, ask])
def test_a_check_that_cannot_return_yes_or_no_is_refused_at_the_definition(approval: Any) -> None:
    with pytest.raises(DefinitionError, match="requires_approval"):
        outlast.activity(name="odd", requires_approval=approval)
    with pytest.raises(DefinitionError, match="requires_approval of 'post'"):
        clerk(tools=[post], requires_approval={"post": approval})


def two_parameters(to: str, amount: int) -> bool:
    return amount > 100


def none() -> bool:
    return True


def with_the_run(arguments: dict[str, Any], run: outlast.RunContext[Any]) -> bool:
    return bool(arguments)


def with_the_run_first(run: outlast.RunContext[Any], arguments: dict[str, Any]) -> bool:
    return bool(arguments)


@pytest.mark.parametrize("approval", [two_parameters, none])
def test_a_check_that_does_not_take_the_arguments_as_one_dict_is_refused_at_the_definition(
    approval: Any,
) -> None:
    told = r"one argument beside a RunContext: a dict of the call's arguments by name"
    with pytest.raises(DefinitionError, match=told):
        outlast.activity(name="odd", requires_approval=approval)
    with pytest.raises(DefinitionError, match=f"requires_approval of 'post'.*{told}"):
        clerk(tools=[post], requires_approval={"post": approval})


@pytest.mark.parametrize("approval", [with_the_run, with_the_run_first, bool, lambda arguments: True])
async def test_a_check_takes_the_arguments_and_the_context_of_the_run_in_any_order(approval: Any) -> None:
    assert (await outcome(clerk(tools=[post], requires_approval={"post": approval}), "post"))[1] == ASKED


async def test_a_plain_run_cannot_wait_for_anybody_and_says_so_before_it_begins() -> None:
    session = outlast.ScriptedSession(lambda request: pytest.fail("was asked"))
    with pytest.raises(NotSupported, match="give it an id"):
        await outlast.Runner.run(clerk(tools=[mail]), "Go.", session)


async def test_a_durable_run_waits_for_a_decision_that_comes_from_elsewhere(tmp_path: Path) -> None:
    sent.clear()
    url = f"sqlite:///{tmp_path}/runs.db"
    session = outlast.ScriptedSession({"clerk": [call("mail", {"to": "Ann"}), say("Done.")]})

    async def decide() -> None:
        async with outlast.connect(url) as backend:
            while not await backend.list():  # noqa: ASYNC110
                await asyncio.sleep(0)  # another connection makes it, and nothing announces it
            execution = await backend.get("a-1")
            async for event in execution.events():
                if isinstance(event.data, ApprovalRequestedData):
                    await execution.decide(event.data.call_id, "allow", "fine")
                    return

    async with asyncio.timeout(30):
        run = outlast.Runner.run(clerk(tools=[mail]), "Go.", session, id="a-1", backend=url)
        result, _ = await asyncio.gather(run, decide())
    assert (result.text, sent) == ("Done.", ["Ann"])


async def test_a_message_that_is_not_a_decision_about_the_shown_call_does_nothing() -> None:
    sent.clear()
    agents["one"] = clerk(tools=[mail])
    clock = SystemClock()
    store = MemoryStore(clock)
    async with JournaledBackend(store, clock) as backend, backend.worker([Errand]):
        execution = await backend.start(Errand, "one", "mail")
        async for event in execution.events():
            if event.kind == "approval_requested":
                break
        [waiting] = await execution.pending()
        forged = Decision(key=waiting.key, fingerprint="0" * 64, verdict="allow")
        messages: list[dict[str, Any]] = [forged.model_dump(mode="json"), {"nonsense": 1}, {}]
        for named in messages:
            body = SignalMessage(name=DECISION_SIGNAL, named=named).to_json()
            await store.send(execution.id, Message(f"m{named!r}"[:40], body))
        await execution.decide(waiting.call_id, "deny", "really not")
        assert "really not" in await execution.result()
    assert sent == []


async def test_the_stream_has_the_arguments_with_which_a_call_was_made() -> None:
    agents["one"] = clerk(tools=[mail])
    async with outlast.connect("memory:") as backend, backend.worker([Errand]):
        execution = await backend.start(Errand, "one", "mail")
        shown: dict[str, Any] = {}
        async for event in execution.events():
            shown[event.kind] = event.data
            if event.kind == "approval_requested":
                [waiting] = await execution.pending()
                edited = {"to": "Bob"}
                await execution.decide(waiting.key, "allow", edited_arguments=edited)
    assert shown["approval_requested"].arguments == {"to": "Ann"}
    assert shown["approval_given"].arguments == {"to": "Ann"}
    assert shown["approval_given"].edited_arguments == {"to": "Bob"}
    assert shown["tool_called"].arguments == {"to": "Bob"}
    assert shown["tool_returned"].result == "sent to Bob"


async def test_edited_arguments_that_do_not_fit_are_refused_and_the_call_still_waits() -> None:
    sent.clear()
    agents["one"] = clerk(tools=[mail])
    async with outlast.connect("memory:") as backend, backend.worker([Errand]):
        execution = await backend.start(Errand, "one", "mail")
        async for event in execution.events():
            if event.kind == "approval_requested":
                [waiting] = await execution.pending()
                with pytest.raises(InvalidArguments, match="whom"):
                    await execution.decide(waiting.key, "allow", edited_arguments={"whom": "Bob"})
                assert await execution.pending() == (waiting,)
                await execution.decide(waiting.key, "deny", "nobody to write to")
        assert "nobody to write to" in await execution.result()
    assert sent == []


async def test_a_streamed_plain_run_cannot_wait_for_anybody_either() -> None:
    session = outlast.ScriptedSession(lambda request: pytest.fail("was asked"))
    run = outlast.Runner.run_streamed(clerk(tools=[mail]), "Go.", session)
    with pytest.raises(NotSupported, match="give it an id"):
        await run.result()


async def test_a_plain_run_with_a_server_tool_that_needs_approval_is_refused() -> None:
    connector = {"type": "connector", "tool_configuration": {"requires_confirmation": ["send"]}}
    agent = clerk(tools=[connector | {"connector_id": "c"}])
    session = outlast.ScriptedSession(lambda request: pytest.fail("was asked"))
    with pytest.raises(NotSupported, match="give it an id"):
        await outlast.Runner.run(agent, "Go.", session)


async def test_a_call_that_only_the_server_knows_is_denied_where_nobody_can_be_asked() -> None:
    wire = call("send", {"to": "Ann"}, call_id="serverrun").to_wire()
    asks = outlast.FunctionCall.model_validate({**wire, "confirmation_status": "pending"})
    session = outlast.ScriptedSession({"clerk": [asks, "Done."]})
    result = await outlast.Runner.run(clerk(), "Go.", session)
    [answer] = [entry for entry in result.entries if entry.type == "tool.confirmation"]
    assert answer.to_wire()["confirmation"] == "deny"
    assert outlast.Runner.messages(session) == result.entries
    outlast.Runner.set_messages(session, outlast.Runner.messages(session))
