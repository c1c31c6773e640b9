"""Executions among others: tags, filters, and lists in pages (D26)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from outlast.core.errors import DefinitionError, ExecutionFailed, NotSupported
from outlast.core.events import TaggedData
from outlast.core.exports import read_export
from outlast.core.tags import TAG_CHARACTERS_MAX, TAGS_MAX
from outlast.ports.durability.backend import every_execution
from outlast.ports.durability.execution import Execution
from outlast.ports.finding import Where
from outlast.runtime.definitions import workflow
from outlast.testing.contracts.durability.activities import pass_gate
from outlast.testing.contracts.durability.stage import (
    DurabilityContractBase,
    Stage,
    all_events,
    data_of,
)
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.waiting import Mailbox
from outlast.testing.contracts.durability.workflows import Echo
from outlast.testing.contracts.durability.world import worlds

TWENTY = {f"tag {number}": str(number) for number in range(TAGS_MAX)}
ODD_TAGS = {
    "team": "blue",
    "it's": 'a "quoted" back\\slash',
    "a=b": "c=d",
    "%41": "100 %",
    "日本": "語 🦉",
    "empty": "",
    "x" * TAG_CHARACTERS_MAX: "é" * TAG_CHARACTERS_MAX,
}
TOO_LONG = "x" * (TAG_CHARACTERS_MAX + 1)


@workflow.define(name="contract.tags_itself")
class TagsItself:
    """Tags itself before, between and after steps."""

    @workflow.entrypoint
    async def run(self, how: str) -> str:
        if how == "too many":
            workflow.tag(TWENTY)
            workflow.tag({"one more": "1"})
        workflow.tag({"stage": "begun", "draft": "yes"})
        await pass_gate("gate")
        workflow.tag({"stage": "half", "draft": None})
        workflow.tag({})
        await pass_gate("second gate")
        workflow.tag({"stage": "done"})
        return how


class FindingContract(DurabilityContractBase):
    # Tags --------------------------------------------------------------------------------------------------

    async def test_d26_an_execution_is_found_by_the_tags_that_it_was_started_with(self, stage: Stage) -> None:
        backend = await stage.backend()
        tagged = await backend.start(Echo, 1, id=stage.new_id(), tags=ODD_TAGS)
        other = await backend.start(Echo, 1, id=stage.new_id(), tags={"team": "red"})
        untagged = await backend.start(Echo, 1, id=stage.new_id())
        assert (await tagged.describe()).tags == ODD_TAGS
        assert (await untagged.describe()).tags == {}
        for tag in ODD_TAGS.items():
            await self.finds(stage, Where(tags=dict([tag])), tagged)
        await self.finds(stage, Where(tags=ODD_TAGS), tagged)
        await self.finds(stage, Where(tags={"team": "red"}, workflow="contract.echo"), other)
        await self.finds(stage, Where(tags={"team": "red"}, workflow="contract.mailbox"))
        await self.finds(stage, Where(tags={"team": "blue", "empty": "no"}))

    async def test_d26_to_start_an_execution_again_changes_no_tags(self, stage: Stage) -> None:
        backend = await stage.backend()
        first = await backend.start(Echo, 1, id=stage.new_id(), tags={"team": "red"})
        again = await backend.start(Echo, 1, id=first.id, tags={"team": "blue", "new": "1"})
        assert (await again.describe()).tags == {"team": "red"}

    @pytest.mark.parametrize(
        "tags",
        [
            {**TWENTY, "more": "1"},
            {"": "1"},
            {TOO_LONG: "1"},
            {"a": TOO_LONG},
            {"a": "b\nc"},
            {"a": 1},
            ["a"],
        ],
    )
    async def test_d26_tags_that_cannot_be_kept_are_refused(self, stage: Stage, tags: Any) -> None:
        backend = await stage.backend()
        with pytest.raises(DefinitionError, match="tag"):
            await backend.start(Echo, 1, id=stage.new_id(), tags=tags)
        assert not await backend.list()

    async def test_d26_code_changes_tags_once_across_crashes(self, stage: Stage) -> None:
        backend = await stage.backend()
        execution_id = stage.new_id()
        execution = await backend.start(
            TagsItself, "code", id=execution_id, tags={"by": "start", "stage": "new"}
        )
        world = worlds[execution_id]
        process = await stage.worker(TagsItself)
        await self.has(stage, execution, {"by": "start", "stage": "begun", "draft": "yes"})
        await stage.soon(world.happened("gate reached"))
        await stage.lose(process)
        await stage.worker(TagsItself)
        world.gate("gate").set()
        await self.has(stage, execution, {"by": "start", "stage": "half"})
        await self.finds(stage, Where(tags={"stage": "half"}), execution)
        await self.finds(stage, Where(tags={"draft": "yes"}))
        world.gate("second gate").set()
        assert await stage.soon(execution.result()) == "code"
        await self.has(stage, execution, {"by": "start", "stage": "done"})
        assert data_of(await all_events(execution), TaggedData) == [
            TaggedData(tags={"stage": "begun", "draft": "yes"}),
            TaggedData(tags={"stage": "half"}, removed=["draft"]),
            TaggedData(tags={"stage": "done"}),
        ]

    async def test_d26_code_that_tags_too_much_gets_an_error(self, stage: Stage) -> None:
        with pytest.raises(ExecutionFailed, match="at most 20 tags"):
            await stage.run(TagsItself, "too many")

    async def test_d26_tags_are_changed_from_outside(self, stage: Stage) -> None:
        backend = await stage.backend()
        execution = await backend.start(Mailbox, id=stage.new_id(), tags={"a": "1", "b": "1"})
        await stage.worker(Mailbox)
        await execution.tag({"a": "2", "b": None, "it's": 'a "quoted" one'})
        await self.has(stage, execution, {"a": "2", "it's": 'a "quoted" one'})
        await self.finds(stage, Where(tags={"a": "2"}), execution)
        await self.finds(stage, Where(tags={"b": "1"}))
        for wrong in ({"": "1"}, {"a": TOO_LONG}, TWENTY):
            with pytest.raises(DefinitionError, match="tag"):
                await execution.tag(wrong)
        assert (await execution.describe()).tags == {"a": "2", "it's": 'a "quoted" one'}

    async def test_d26_an_execution_that_has_ended_is_tagged(self, stage: Stage) -> None:
        self.needs(BackendCapability.TAGS_WHAT_HAS_ENDED)
        execution, _ = await stage.start(Echo, 1)
        await stage.worker(Echo)
        await stage.soon(execution.result())
        await execution.tag({"seen": "yes"})
        assert (await execution.describe()).tags == {"seen": "yes"}
        await self.finds(stage, Where(tags={"seen": "yes"}, status="completed"), execution)

    async def test_d26_a_fork_an_export_and_a_retry_have_the_tags(self, stage: Stage) -> None:
        self.needs(BackendCapability.RERUNS)
        backend = await stage.backend()
        execution = await backend.start(TagsItself, "gated", id=stage.new_id(), tags={"by": "start"})
        process = await stage.worker(TagsItself)
        tags = {"by": "start", "stage": "begun", "draft": "yes", "later": "1"}
        await execution.tag({"later": "1"})
        await self.has(stage, execution, tags)
        await stage.lose(process)
        assert (await (await execution.fork(id=stage.new_id())).describe()).tags == tags
        lines = await execution.export()
        assert read_export(lines).header.tags == tags
        imported = await backend.import_(lines, id=stage.new_id())
        assert (await imported.describe()).tags == tags
        await self.finds(stage, Where(status="paused", tags={"later": "1"}), imported)
        await execution.terminate("enough")
        assert (await execution.describe()).tags == tags
        await execution.retry()
        assert (await execution.describe()).tags == tags

    # Lists -------------------------------------------------------------------------------------------------

    async def test_d26_pages_have_each_execution_once(self, stage: Stage) -> None:
        backend = await stage.backend()
        started = {(await backend.start(Echo, 1, id=stage.new_id())).id for _ in range(11)}
        await backend.start(Mailbox, id=stage.new_id())
        where = Where(workflow="contract.echo")

        async def all_are_there() -> bool | None:
            return len(await backend.list(where)) == 11 or None

        await stage.until(all_are_there)
        for limit in (1, 4, 11, 12):
            read: list[str] = []
            page = await backend.list(where, limit=limit)
            while page.cursor is not None:
                assert len(page) == limit
                read += [one.id for one in page]
                page = await backend.list(where, limit=limit, cursor=page.cursor)
            read += [one.id for one in page]
            assert len(read) == 11
            assert set(read) == started

    async def test_d26_the_newest_come_first_on_every_page(self, stage: Stage) -> None:
        self.needs(BackendCapability.LISTS_IN_ORDER)
        backend = await stage.backend()
        ids = []
        for _ in range(7):
            ids.append((await backend.start(Echo, 1, id=stage.new_id())).id)
            await stage.pass_time(0.5)
        assert [one.id async for one in every_execution(backend)] == ids[::-1]
        assert [one.id async for one in every_execution(backend, limit=3)] == ids[:3:-1]

    async def test_d26_filters_join(self, stage: Stage) -> None:
        backend = await stage.backend()
        prefix = stage.new_id()
        old = await backend.start(Echo, 1, id=f"{prefix} it's old")
        await stage.pass_time(1.0)
        new = await backend.start(Echo, 1, id=f"{prefix} new")
        newer = await backend.start(Echo, 1, id=f'{prefix} new "quoted" \\')
        created_at = (await new.describe()).created_at
        await self.finds(stage, Where(id_prefix=prefix), old, new, newer)
        await self.finds(stage, Where(id_prefix=f"{prefix} it's"), old)
        await self.finds(stage, Where(id_prefix=f'{prefix} new "quoted" \\'), newer)
        await self.finds(stage, Where(id_prefix=prefix, created_after=created_at), new, newer)
        await self.finds(stage, Where(id_prefix=prefix, created_before=created_at), old)
        await self.finds(stage, Where("contract.echo", "running", id_prefix=f"{prefix} new"), new, newer)
        await self.finds(stage, Where(status="paused"))
        await self.finds(stage, Where(id_prefix="x" * 5000))
        await self.finds(stage, Where(created_after=created_at + timedelta(days=1)))

    async def test_d26_a_text_that_is_not_a_cursor_is_refused(self, stage: Stage) -> None:
        backend = await stage.backend()
        for _ in range(3):
            await backend.start(Echo, 1, id=stage.new_id())
        for wrong in ("", "x", "é", "WzEsMl0", "null", "e" * 100, 7):
            with pytest.raises(DefinitionError, match="is not a cursor"):
                await backend.list(cursor=wrong)  # type: ignore[arg-type]  # some are wrong on purpose

    async def test_d26_a_wait_is_found_by_or_the_backend_says_that_it_cannot(self, stage: Stage) -> None:
        backend = await stage.backend()
        execution = await backend.start(Echo, 1, id=stage.new_id())
        where = Where(waiting_for="approval")
        if BackendCapability.FINDS_WAITS in self.capabilities:
            assert execution.id not in [one.id async for one in every_execution(backend, where)]
        else:
            with pytest.raises(NotSupported, match="waiting_for"):
                await backend.list(where)
        with pytest.raises(NotSupported, match="waiting_for"):
            await backend.list(Where(waiting_for="worker"))

    # What these tests share

    async def finds(self, stage: Stage, where: Where, *expected: Execution) -> None:
        """Return when the filter finds exactly these; a list may lag behind."""
        backend = await stage.backend()

        async def finds_them() -> bool | None:
            found = sorted([one.id async for one in every_execution(backend, where)])
            return found == sorted(execution.id for execution in expected) or None

        await stage.until(finds_them)

    async def has(self, stage: Stage, execution: Execution, tags: Mapping[str, str]) -> None:
        """Return when the execution has exactly these tags."""

        async def has_them() -> bool | None:
            return (await execution.describe()).tags == tags or None

        await stage.until(has_them)
