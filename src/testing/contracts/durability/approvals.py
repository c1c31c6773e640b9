"""Tool calls that need a person: D17."""

from __future__ import annotations

import asyncio
from types import NoneType
from typing import Annotated, Any

import pytest
from pydantic import Field

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.approvals import PendingApproval
from outlast.core.entries import FunctionResult
from outlast.core.errors import (
    AlreadyDecided,
    DefinitionError,
    ExecutionAlreadyEnded,
    ExecutionCancelled,
    InvalidArguments,
    NotPending,
    Unserialisable,
)
from outlast.core.events import ApprovalDeniedData, ApprovalGivenData, EventKind
from outlast.ports.durability.execution import Execution
from outlast.ports.durability.pending import inbox_of
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events
from outlast.testing.contracts.durability.waiting import Mailbox
from outlast.testing.contracts.durability.world import here

SMALL = 10


@activity(
    name="contract_pay",
    retry_policy_initial_interval=AT_ONCE,
    requires_approval=lambda arguments: arguments["amount"] > SMALL,
)
async def pay(to: str, amount: Annotated[int, Field(multiple_of=5)]) -> str:
    """Pay somebody; much only if a person allows it."""
    here().happen(f"paid {amount} to {to}")
    return f"{to} has {amount}"


async def _spend(payments: list[list[Any]]) -> list[str]:
    calls = [call("contract_pay", {"to": to, "amount": amount}) for to, amount in payments]
    session = ScriptedSession({"spender": [calls, say("Done.")]})
    agent = Agent(model="m", name="spender", tools=[pay])
    result = await Runner.run(agent, "Pay.", session)
    return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


@workflow.define(name="contract.spender")
class Spender:
    """Lets an agent pay, all at once."""

    @workflow.entrypoint
    async def run(self, payments: list[list[Any]]) -> list[str]:
        return await _spend(payments)


@workflow.define(name="contract.spenders")
class Spenders:
    """Lets several agents pay at the same time; each gives its calls the same ids."""

    @workflow.entrypoint
    async def run(self, payments: list[list[Any]]) -> list[str]:
        answers = await asyncio.gather(*(_spend([payment]) for payment in payments))
        return [result for results in answers for result in results]


class ApprovalContract(DurabilityContractBase):
    """D17."""

    async def asked(self, stage: Stage, execution: Execution, number: int) -> list[PendingApproval]:
        """Return the calls that wait, once that number of approvals was requested."""
        await stage.event(execution, EventKind.APPROVAL_REQUESTED, number)
        return list(await stage.soon(execution.pending()))

    async def test_d17_a_call_waits_for_its_approval_across_crashes_and_is_made_once(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(Spender, [["Ann", 70]])
        process = await stage.worker(Spender)
        before = await self.asked(stage, execution, 1)
        await stage.lose(process)
        process = await stage.worker(Spender)
        [waiting] = await stage.soon((await stage.again(execution)).pending())
        assert [waiting] == before
        assert (waiting.agent, waiting.tool) == ("spender", "contract_pay")
        assert waiting.arguments == {"to": "Ann", "amount": 70}
        assert world.effects == []
        await execution.decide(waiting.call_id, "allow")
        await stage.event(execution, EventKind.TOOL_RETURNED)
        await stage.lose(process)
        await stage.worker(Spender)
        assert await stage.later(execution.result(), 1) == ["Ann has 70"]
        assert [effect.what for effect in world.effects] == ["paid 70 to Ann"]
        assert await stage.soon(execution.pending()) == ()

    async def test_d17_a_denied_call_is_never_made_and_the_model_gets_the_reason(self, stage: Stage) -> None:
        execution, world = await stage.start(Spender, [["Ann", 70]])
        await stage.worker(Spender)
        [waiting] = await self.asked(stage, execution, 1)
        await execution.decide(waiting.call_id, "deny", "ask her first")
        [answer] = await stage.soon(execution.result())
        assert "denied" in answer
        assert "ask her first" in answer
        assert world.effects == []
        kinds = [event.kind for event in await stage.soon(all_events(execution))]
        assert EventKind.APPROVAL_DENIED in kinds
        assert EventKind.TOOL_CALLED not in kinds

    async def test_d17_calls_are_decided_in_any_order_and_one_by_one(self, stage: Stage) -> None:
        execution, world = await stage.start(Spender, [["Ann", 70], ["Bob", 80], ["Cid", 90]])
        process = await stage.worker(Spender)
        ann, bob, cid = await self.asked(stage, execution, 3)
        await execution.decide(cid.call_id, "deny", by="Dora")
        await execution.decide(ann.key, "allow")
        await stage.event(execution, EventKind.TOOL_RETURNED)
        await stage.lose(process)
        await stage.worker(Spender)
        assert list(await stage.soon(execution.pending())) == [bob]
        await execution.decide(bob.call_id, "allow", "but less", edited_arguments={"to": "Bob", "amount": 60})
        answers = await stage.later(execution.result(), 1)
        events = [event.data for event in await stage.soon(all_events(execution))]
        assert [data.by for data in events if isinstance(data, ApprovalDeniedData)] == ["Dora"]
        assert [data.by for data in events if isinstance(data, ApprovalGivenData)] == [None, None]
        assert answers[:2] == ["Ann has 70", "Bob has 60"]
        assert "denied" in answers[2]
        assert [effect.what for effect in world.effects] == ["paid 70 to Ann", "paid 60 to Bob"]

    async def test_d17_the_calls_of_all_executions_are_found_paused_or_not(self, stage: Stage) -> None:
        backend = await stage.backend()
        first, _ = await stage.start(Spender, [["Ann", 70]])
        second, _ = await stage.start(Spenders, [["Bob", 80], ["Cid", 90]])
        other, _ = await stage.start(Mailbox)
        await stage.worker(Spender, Spenders, Mailbox)
        await self.asked(stage, first, 1)
        await self.asked(stage, second, 2)
        await stage.event(other, EventKind.EXECUTION_STARTED)

        async def found(*payees: str) -> None:
            async def are_found() -> bool | None:
                pending = await inbox_of(backend)
                ids = {execution_id for execution_id, _ in pending.calls}
                shown = sorted(str(call.arguments["to"]) for _, call in pending.calls)
                return (pending.is_all and ids <= {first.id, second.id} and shown == [*payees]) or None

            await stage.until(are_found)

        await found("Ann", "Bob", "Cid")
        assert await second.pause()
        await stage.event(second, EventKind.EXECUTION_PAUSED)
        await found("Ann", "Bob", "Cid")
        [(_, call)] = [one for one in (await inbox_of(backend)).calls if one[0] == first.id]
        await first.decide(call.call_id, "allow")
        await stage.soon(first.result())
        await found("Bob", "Cid")
        assert await second.resume()
        await found("Bob", "Cid")
        await second.terminate("enough")
        await found()

    async def test_d17_only_a_call_that_waits_can_be_decided_about(self, stage: Stage) -> None:
        execution, _ = await stage.start(Spender, [["Ann", 70], ["Bob", 80]])
        await stage.worker(Spender)
        ann, bob = await self.asked(stage, execution, 2)
        with pytest.raises(NotPending, match=f": {ann.call_id}, {bob.call_id}$"):
            await execution.decide("another", "allow")
        with pytest.raises(DefinitionError):
            await execution.decide(ann.call_id, "perhaps")  # type: ignore[arg-type]  # what users may do
        with pytest.raises(DefinitionError):
            await execution.decide(ann.call_id, "deny", edited_arguments={})
        with pytest.raises(Unserialisable):
            await execution.decide(ann.call_id, "allow", edited_arguments={"to": object()})
        with pytest.raises(NotPending, match="not the one that was shown"):
            await execution.decide(ann.key, "allow", fingerprint=bob.fingerprint)
        await execution.decide(ann.call_id, "allow", by="Dora", fingerprint=ann.fingerprint)
        await stage.event(execution, EventKind.APPROVAL_GIVEN)
        with pytest.raises(AlreadyDecided, match=r"already allowed \(by Dora\)"):
            await execution.decide(ann.call_id, "deny")
        await execution.decide(bob.call_id, "allow")
        await stage.soon(execution.result())
        with pytest.raises(ExecutionAlreadyEnded):
            await execution.decide(ann.call_id, "allow")

    async def test_d17_a_call_is_decided_once_also_before_a_worker_takes_the_decision(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(Spender, [["Ann", 70], ["Bob", 80]])
        process = await stage.worker(Spender)
        ann, bob = await self.asked(stage, execution, 2)
        await process.stop()
        await execution.decide(ann.call_id, "allow", by="Dora")
        other = await stage.again(execution)
        assert list(await other.pending()) == [bob]
        for name in (ann.call_id, ann.key):
            with pytest.raises(AlreadyDecided, match=r"already allowed \(by Dora\)"):
                await other.decide(name, "deny")
        await other.decide(bob.call_id, "deny")
        with pytest.raises(AlreadyDecided, match="already denied"):
            await execution.decide(bob.call_id, "allow")
        assert list(await execution.pending()) == []
        await stage.worker(Spender)
        first, second = await stage.later(execution.result(), 1)
        assert first == "Ann has 70"
        assert "denied" in second
        assert [effect.what for effect in world.effects] == ["paid 70 to Ann"]

    async def test_d17_edited_arguments_that_do_not_fit_decide_nothing(self, stage: Stage) -> None:
        execution, world = await stage.start(Spender, [["Ann", 70]])
        await stage.worker(Spender)
        [ann] = await self.asked(stage, execution, 1)
        wrong = {"to": "Ann", "amount": "a lot", "by": "train"}
        with pytest.raises(InvalidArguments) as refused:
            await execution.decide(ann.call_id, "allow", edited_arguments=wrong)
        assert "amount" in str(refused.value)
        assert "by" in str(refused.value)
        # The schema check does not know this rule of the tool, but the run does.
        await execution.decide(ann.call_id, "allow", edited_arguments={"to": "Ann", "amount": 61})

        async def waits_again() -> bool | None:
            return list(await execution.pending()) == [ann] or None

        await stage.until(waits_again)
        await execution.decide(ann.call_id, "allow", edited_arguments={"to": "Ann", "amount": 60})
        assert await stage.soon(execution.result()) == ["Ann has 60"]
        assert [effect.what for effect in world.effects] == ["paid 60 to Ann"]

    async def test_d17_a_call_with_arguments_that_do_not_fit_needs_no_decision(self, stage: Stage) -> None:
        execution, world = await stage.start(Spender, [["Ann", "a lot"], ["Bob", 71]])
        await stage.worker(Spender)
        answers = await stage.soon(execution.result())
        assert ["amount" in one for one in answers] == [True, True]
        assert world.effects == []
        kinds = [event.kind for event in await stage.soon(all_events(execution))]
        assert EventKind.APPROVAL_REQUESTED not in kinds
        assert kinds.count(EventKind.TOOL_FAILED) == 2

    async def test_d17_of_two_decisions_at_once_exactly_one_counts(self, stage: Stage) -> None:
        execution, world = await stage.start(Spender, [["Ann", 70]])
        await stage.worker(Spender)
        [ann] = await self.asked(stage, execution, 1)
        other = await stage.again(execution)
        both = (execution.decide(ann.call_id, "allow"), other.decide(ann.call_id, "deny"))
        late = await asyncio.gather(*both, return_exceptions=True)
        assert [
            error for error in late if not isinstance(error, (NotPending, ExecutionAlreadyEnded, NoneType))
        ] == []
        await stage.soon(execution.result())
        kinds = [event.kind for event in await stage.soon(all_events(execution))]
        assert kinds.count(EventKind.APPROVAL_GIVEN) + kinds.count(EventKind.APPROVAL_DENIED) == 1
        assert len(world.effects) == kinds.count(EventKind.APPROVAL_GIVEN)

    async def test_d17_a_call_that_its_check_allows_needs_no_decision(self, stage: Stage) -> None:
        execution, world = await stage.start(Spender, [["Ann", SMALL]])
        await stage.worker(Spender)
        assert await stage.soon(execution.result()) == [f"Ann has {SMALL}"]
        assert len(world.effects) == 1
        kinds = [event.kind for event in await stage.soon(all_events(execution))]
        assert EventKind.APPROVAL_REQUESTED not in kinds

    async def test_d17_a_decision_counts_for_one_call_only(self, stage: Stage) -> None:
        execution, world = await stage.start(Spenders, [["Ann", 70], ["Ann", 70]])
        await stage.worker(Spenders)
        first, second = await self.asked(stage, execution, 2)
        assert first.call_id == second.call_id
        assert first.fingerprint == second.fingerprint
        with pytest.raises(NotPending, match="keys"):
            await execution.decide(first.call_id, "allow")
        await execution.decide(first.key, "allow")
        await stage.event(execution, EventKind.TOOL_RETURNED)
        assert list(await stage.soon(execution.pending())) == [second]
        await execution.decide(second.key, "deny")
        answers = await stage.soon(execution.result())
        assert sorted("denied" in one for one in answers) == [False, True]
        assert len(world.effects) == 1

    async def test_d17_a_cancelled_run_has_no_pending_calls(self, stage: Stage) -> None:
        execution, world = await stage.start(Spender, [["Ann", 70]])
        await stage.worker(Spender)
        [ann] = await self.asked(stage, execution, 1)
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await stage.soon(execution.result())
        assert await stage.soon(execution.pending()) == ()
        with pytest.raises(ExecutionAlreadyEnded):
            await execution.decide(ann.call_id, "allow")
        assert world.effects == []
