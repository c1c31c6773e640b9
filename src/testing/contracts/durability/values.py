"""Values at every entry to an execution: each is kept unchanged, or refused where it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field

from outlast.core.errors import ActivityFailed, ExecutionFailed, Unserialisable, UpdateFailed
from outlast.core.events import ActivityFailedData
from outlast.core.json import DEPTH_MAX
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.testing.contracts.durability.activities import AT_ONCE, record
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of


def lists(levels: int) -> Any:
    """Return that many lists, each in the other."""
    value: Any = "the end"
    for _ in range(levels):
        value = [value]
    return value


def objects(levels: int) -> Any:
    """Return that many objects, each in the other."""
    value: Any = "the end"
    for _ in range(levels):
        value = {"x": value}
    return value


KEPT: dict[str, Any] = {
    "null": None,
    "empty": [],
    "lists as deep as may be": lists(DEPTH_MAX),
    "objects as deep as may be": objects(DEPTH_MAX),
    "many digits": 10**400,
    "beyond 64 bits": [2**63, 2**64, -(2**64)],
    "fractions": [-0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e22],
    "kinds of one": [1, 1.0, True, "1"],
    "half a character": ["\ud800", {"x": "\udfff \x00"}],
    "odd names": {"": 1, "\x00": 2, "a.b": 3, "__class__": 4, "b": 5, "a": 6},
    "long": "ä👋" * 20_000,
    "looks like a record": {"type": "execution_ended", "at": 0, "key": "k", "format": 99},
    "looks like a payload": {"metadata": {"encoding": "json/plain"}, "data": "e30="},
}
"""Values that come back as they are."""

REFUSED: dict[str, Callable[[], Any]] = {
    "NaN": lambda: [float("nan")],
    "infinity": lambda: {"x": float("-inf")},
    "too many digits": lambda: 10**5000,
    "too many lists": lambda: lists(DEPTH_MAX + 1),
    "too many objects": lambda: [objects(DEPTH_MAX)],
    "very many lists": lambda: lists(100_000),
    "itself": lambda: _within_itself(),
    "keys alike": lambda: {1: "a", "1": "b"},
    "keys alike, further in": lambda: [{"x": {True: "a", "true": "b"}}],
    "keys alike, and none": lambda: {None: "a", "None": "b"},
    "an excluded field": lambda: [Guarded(name="a", secret="s")],
    "what is read once": lambda: iter([1]),
    "object": lambda: object(),
}
"""Functions that make values which no journal keeps."""


class Guarded(BaseModel):
    """A model with a field that its JSON leaves out."""

    name: str
    secret: str = Field("none", exclude=True)


def _within_itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@activity(name="contract_same", retry_policy_initial_interval=AT_ONCE)
async def same(value: Any) -> Any:
    """Return the value."""
    activity.heartbeat(value)
    return value


@activity(name="contract_make", retry_policy_initial_interval=AT_ONCE)
async def make(name: str) -> Any:
    """Return a value that cannot be kept."""
    return REFUSED[name]()


@workflow.define(name="contract.entries")
class Entries:
    """Takes a value at every entry, and returns it."""

    def __init__(self) -> None:
        self.held: list[Any] = []

    @workflow.entrypoint
    async def run(self, value: Any) -> Any:
        self.held.append(await same(value))
        await workflow.wait_condition(lambda: len(self.held) == 3)
        return self.held[0]

    @workflow.signal
    def put(self, value: Any) -> None:
        self.held.append(value)

    @workflow.update
    async def exchange(self, value: Any) -> Any:
        self.held.append(await same(value))
        return value

    @workflow.query
    def look(self, place: int) -> Any:
        return self.held[place]


@workflow.define(name="contract.exits")
class Exits:
    """Tries to return, at every exit, a value that cannot be kept."""

    def __init__(self) -> None:
        self.finished = False

    @workflow.entrypoint
    async def run(self, name: str) -> Any:
        refused = []
        for attempt in (same(REFUSED[name]()), make(name)):
            try:
                await attempt
            except Unserialisable as error:
                refused.append(type(error).__name__)
        await record(f"{name}: {', '.join(refused)}")
        await workflow.wait_condition(lambda: self.finished)
        return REFUSED[name]()

    @workflow.signal
    def finish(self) -> None:
        self.finished = True

    @workflow.query
    def look(self, name: str) -> Any:
        return REFUSED[name]()

    @workflow.update
    async def change(self, name: str) -> Any:
        return REFUSED[name]()


ODD_TEXT = "half a character \ud800, a NUL \x00, \x1b[31m and 👋\n\u2028"


class OddError(Exception):
    """An error whose text no encoding carries as it is."""

    def __init__(self) -> None:
        super().__init__(ODD_TEXT)


@activity(name="contract_fail_oddly", retry_policy_max_attempts=2, retry_policy_initial_interval=AT_ONCE)
async def fail_oddly() -> None:
    """Fail."""
    raise OddError


@workflow.define(name="contract.odd_errors")
class OddErrors:
    """Fails in every handler with a text that is hard to carry."""

    def __init__(self) -> None:
        self.finished = False

    @workflow.entrypoint
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.finished)
        try:
            await fail_oddly()
        except ActivityFailed as error:
            raise OddError from error

    @workflow.signal
    def finish(self) -> None:
        self.finished = True

    @workflow.query
    def look(self) -> None:
        raise OddError

    @workflow.update
    async def change(self) -> None:
        raise OddError


class ValueContract(DurabilityContractBase):
    """D2, D12: a kept value equals the given value."""

    async def test_d2_a_value_is_unchanged_at_every_entry(self, stage: Stage) -> None:
        started = {name: (await stage.start(Entries, value))[0] for name, value in KEPT.items()}
        process = await stage.worker(Entries)
        for name, execution in started.items():
            await execution.signal("put", KEPT[name])
            answer = await stage.soon(execution.update("exchange", KEPT[name]))
            assert repr(answer) == repr(KEPT[name]), name
        await stage.soon(process.stop())
        await stage.worker(Entries)
        for name, execution in started.items():
            assert repr(await stage.soon(execution.result())) == repr(KEPT[name]), name
            for place in range(3):
                assert repr(await stage.soon(execution.query("look", place))) == repr(KEPT[name]), name

    async def test_d12_a_value_that_cannot_be_kept_is_refused_where_it_is_given(self, stage: Stage) -> None:
        execution, _ = await stage.start(Entries, None)
        backend = (await stage.worker(Entries)).backend
        for make_value in REFUSED.values():
            with pytest.raises(Unserialisable):
                await backend.start(Entries, make_value(), id=stage.new_id())
            with pytest.raises(Unserialisable):
                await stage.soon(execution.signal("put", make_value()))
            with pytest.raises(Unserialisable):
                await stage.soon(execution.update("exchange", make_value()))

    async def test_d12_a_value_that_cannot_be_kept_never_leaves_the_code_that_made_it(
        self, stage: Stage
    ) -> None:
        await stage.worker(Exits)
        for name in REFUSED:
            execution, world = await stage.start(Exits, name)
            for attempt in (execution.query("look", name), execution.update("change", name)):
                with pytest.raises((Unserialisable, UpdateFailed)):
                    await stage.soon(attempt)
            await execution.signal("finish")
            with pytest.raises(ExecutionFailed) as failed:
                await stage.soon(execution.result())
            assert isinstance(failed.value.__cause__, Unserialisable), name
            assert world.count(f"{name}: Unserialisable, Unserialisable") == 1

    async def test_d12_an_error_of_any_text_is_raised(self, stage: Stage) -> None:
        execution, _ = await stage.start(OddErrors)
        await stage.worker(OddErrors)
        for attempt in (execution.query("look"), execution.update("change")):
            with pytest.raises(Exception, match="half a character"):
                await stage.soon(attempt)
        await execution.signal("finish")
        with pytest.raises(ExecutionFailed, match="half a character"):
            await stage.soon(execution.result())
        failed = data_of(await all_events(execution), ActivityFailedData)
        assert [data.failure.message.count("half a character") for data in failed] == [1]
