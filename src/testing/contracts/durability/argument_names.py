"""Arguments that have the names of options of the library."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.core.errors import InvalidArguments
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage


@activity(name="contract_names", retry_policy_initial_interval=AT_ONCE)
async def names(id: str, name: str, timeout: int, backend: str, task_queue: str) -> list[Any]:
    """Return the arguments."""
    return [id, name, timeout, backend, task_queue]


@workflow.define(name="contract.names")
class Names:
    """Has parameters with the names of options of the library."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    @workflow.entrypoint
    async def run(self, id: str, task_queue: str, backend: str, name: str, timeout: int) -> list[Any]:
        given = await names(id=id, name=name, timeout=timeout, backend=backend, task_queue=task_queue)
        await workflow.wait_condition(lambda: bool(self.received))
        return [*given, *self.received]

    @workflow.signal
    def receive(self, id: str, name: str, timeout: int) -> None:
        self.received = [id, name, timeout]

    @workflow.update
    async def answer(self, id: str, name: str, timeout: int = 0) -> list[Any]:
        return [id, name, timeout]

    @workflow.query
    def look(self, id: str, name: str, timeout: int) -> list[Any]:
        return [id, name, timeout]


class ArgumentNameContract(DurabilityContractBase):
    """An argument may have the name of an option; where that is ambiguous, the call raises."""

    async def test_arguments_may_have_the_names_of_options(self, stage: Stage) -> None:
        backend = (await stage.worker(Names)).backend
        given: dict[str, Any] = {"name": "n", "timeout": 3}
        execution = await backend.start(Names, "i", "q", "b", **given, id=stage.new_id())
        assert await stage.soon(execution.query("look", id="i", **given)) == ["i", "n", 3]
        assert await stage.soon(execution.update("answer", "i", id="u-1", **given)) == ["i", "n", 3]
        assert await stage.soon(execution.update("answer", "i", name="n")) == ["i", "n", 0]
        await execution.signal("receive", id="j", name="m", timeout=4)
        assert await stage.soon(execution.result()) == ["i", "n", 3, "b", "q", "j", "m", 4]

    async def test_an_option_is_never_taken_for_an_argument_of_its_name(self, stage: Stage) -> None:
        backend = (await stage.worker(Names)).backend
        given: dict[str, Any] = {"name": "n", "timeout": 3, "backend": "b"}
        with pytest.raises(InvalidArguments, match="id is an option of the call, and a parameter too"):
            await backend.start(Names, **given, id=stage.new_id())
        with pytest.raises(InvalidArguments, match="task_queue is an option"):
            await backend.start(Names, "i", **given, task_queue="q")
        execution = await backend.start(Names, "i", "q", **given, id=stage.new_id())
        with pytest.raises(InvalidArguments, match="id is an option"):
            await stage.soon(execution.update("answer", name="n", id="u-1"))
