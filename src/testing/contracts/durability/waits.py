"""The waits of an open execution, and its figures, as its description and a list show them (D26)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from outlast.core.errors import NotSupported
from outlast.core.events import EventKind
from outlast.core.waiting import WaitingFor, WaitingKind
from outlast.ports.durability.backend import every_execution
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.finding import Where
from outlast.runtime.definitions import workflow
from outlast.testing.contracts.durability.activities import pass_gate
from outlast.testing.contracts.durability.approvals import Spender
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage
from outlast.testing.contracts.durability.waiting import Mailbox


@workflow.define(name="contract.waits_for_all")
class WaitsForAll:
    """Waits for a step, and then for a timer."""

    @workflow.entrypoint
    async def run(self, seconds: float) -> None:
        await pass_gate("gate")
        await asyncio.sleep(seconds)


class WaitsContract(DurabilityContractBase):
    async def first(self, stage: Stage, execution: Execution, kind: WaitingKind) -> WaitingFor:
        """Return what the execution waits for first, once that is of this kind."""

        async def find() -> WaitingFor | None:
            waits = (await execution.describe()).waiting_for
            return waits[0] if waits and waits[0].kind is kind else None

        return await stage.until(find)

    async def listed(self, execution: Execution, kind: WaitingKind) -> list[ExecutionDescription]:
        """Return the execution as a list shows it that is filtered by this kind; none if it is not there."""
        try:
            page = every_execution(self.place, Where(waiting_for=kind, id_prefix=execution.id))
            return [one async for one in page]
        except NotSupported:
            return [await execution.describe()]

    async def test_d26_a_description_says_which_step_or_timer_or_message_is_waited_for(
        self, stage: Stage
    ) -> None:
        self.place = await stage.backend()
        execution, world = await stage.start(WaitsForAll, 3600.0)
        assert (await self.first(stage, execution, WaitingKind.WORKER)).text
        process = await stage.worker(WaitsForAll, Mailbox)
        attempt = await self.first(stage, execution, WaitingKind.ATTEMPT)
        assert (attempt.text, attempt.attempt) == ("pass_gate", 1)
        assert attempt.step
        assert attempt.since is not None
        assert attempt.since.tzinfo is not None
        [found] = await self.listed(execution, WaitingKind.ATTEMPT)
        assert found.waiting_for[0] == attempt
        world.gate("gate").set()
        timer = await self.first(stage, execution, WaitingKind.TIMER)
        assert timer.until is not None
        assert timer.until - attempt.since >= timedelta(hours=1)
        mailbox, _ = await stage.start(Mailbox)
        await self.first(stage, mailbox, WaitingKind.SIGNAL)
        [found] = await self.listed(mailbox, WaitingKind.SIGNAL)
        assert found.id == mailbox.id
        await process.stop()
        assert (await self.first(stage, execution, WaitingKind.WORKER)).text
        await stage.worker(WaitsForAll, Mailbox)
        await mailbox.signal("stop")
        await stage.soon(mailbox.result())
        assert (await mailbox.describe()).waiting_for == ()

    async def test_d26_a_description_shows_approvals_first_and_counts_turns(self, stage: Stage) -> None:
        self.place = await stage.backend()
        execution, _ = await stage.start(Spender, [["Ann", 70]])
        await stage.worker(Spender)
        await stage.event(execution, EventKind.APPROVAL_REQUESTED)
        approval = await self.first(stage, execution, WaitingKind.APPROVAL)
        [pending] = await stage.soon(execution.pending())
        assert approval.step == pending.call_id
        assert "contract_pay" in approval.text
        described = await execution.describe()
        assert (described.turns, described.agent) == (1, pending.agent)
        fork = await execution.fork(id=stage.new_id())
        assert (await fork.describe()).forked_from == execution.id
        await execution.decide(pending.call_id, "allow")
        await stage.soon(execution.result())
        described = await execution.describe()
        assert (described.turns, described.waiting_for) == (2, ())
        assert described.usage is not None

    async def test_d26_the_rows_of_a_page_show_what_their_executions_wait_for(self, stage: Stage) -> None:
        self.place = backend = await stage.backend()
        spender, _ = await stage.start(Spender, [["Ann", 70]])
        mailbox, _ = await stage.start(Mailbox)
        ended, _ = await stage.start(Mailbox)
        await stage.worker(Spender, Mailbox)
        await stage.event(spender, EventKind.APPROVAL_REQUESTED)
        await self.first(stage, mailbox, WaitingKind.SIGNAL)
        await ended.signal("stop")
        await stage.soon(ended.result())

        async def rows() -> list[ExecutionDescription] | None:
            found: list[ExecutionDescription] = []
            for one in (ended, spender, mailbox):
                found += await backend.list(Where(id_prefix=one.id))  # Such a list may be late.
            return found if [row.ended_at is None for row in found] == [False, True, True] else None

        shown = await backend.with_overviews(await stage.until(rows))
        assert [row.id for row in shown] == [ended.id, spender.id, mailbox.id]
        assert shown[0].waiting_for == ()
        for row, execution in zip(shown[1:], (spender, mailbox), strict=True):
            described = await execution.describe()
            facts = (described.waiting_for, described.turns, described.usage, described.agent)
            assert (row.waiting_for, row.turns, row.usage, row.agent) == facts
