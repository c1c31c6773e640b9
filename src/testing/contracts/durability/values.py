"""Values at every entry to an execution: each is kept unchanged, or refused where it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NamedTuple, cast

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from outlast.core.errors import (
    ActivityFailed,
    ExecutionFailed,
    InvalidArguments,
    Unserialisable,
    UpdateFailed,
)
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
    "an excluded field": lambda: [Thing(name="a", secret="s")],
    "what is read once": lambda: iter([1]),
    "object": lambda: object(),
}
"""Functions that make values which no journal keeps."""


class Thing(BaseModel):
    """Something in a parcel."""

    name: str
    secret: str = Field("none", exclude=True)


class Toy(Thing):
    """Something that has more to it than its base says."""

    age: int = 0


class Kind(Enum):
    """An enum that is neither text nor number."""

    GIFT = "gift"
    RETURN = "return"


class Label(NamedTuple):
    """A tuple whose items have names."""

    street: str
    number: int


class Slip(TypedDict, total=False):
    """A dict with known keys."""

    weight: Decimal


@dataclass
class Stamped:
    """A class that takes more arguments than it keeps."""

    price: int
    factor: InitVar[int] = 1
    total: int = 0

    def __post_init__(self, factor: int) -> None:
        self.total = self.price * factor


@dataclass
class Parcel:
    """A value with types in it."""

    kind: Literal[Kind.GIFT] = Kind.GIFT
    note: str = ""
    things: list[Thing] = field(default_factory=list)
    choice: Thing | Toy | None = None
    raw: bytes = b""
    sent: date | None = None
    label: Label | None = None
    place: tuple[str, int] = ("", 0)
    slip: Slip | None = None
    stamp: Stamped | None = None
    by_number: dict[int, str] = field(default_factory=dict)
    by_either: dict[int | str, str] = field(default_factory=dict)
    rest: Any = None


KEPT_PARCELS: dict[str, Parcel] = {
    "empty": Parcel(),
    "half a character": Parcel(note="\ud800", rest={"x": ["\ud83d"]}),
    "bytes": Parcel(raw=b"\xff\x00", rest={"bytes": "as text"}),
    "classes": Parcel(things=[Thing(name="a"), Thing(name="b")], choice=Toy(name="c", age=7)),
    "names": Parcel(label=Label("Main Street", 1), place=("Main Street", 1)),
    "keys": Parcel(by_number={1: "a", 2: "b"}, by_either={"x": "y"}, slip={"weight": Decimal("1.50")}),
    "others": Parcel(sent=date(2026, 1, 2), stamp=Stamped(3)),
}
"""Values that come back as they are, with their types."""

CUT_PARCELS: dict[str, Callable[[], Parcel]] = {
    "a subclass": lambda: Parcel(things=[Toy(name="a", age=7)]),
    "an excluded field": lambda: Parcel(things=[Thing(name="a", secret="s")]),
    "an excluded field where nothing is said": lambda: Parcel(rest=[Thing(name="a", secret="s")]),
    "a named tuple": lambda: Parcel(place=Label("Main Street", 1)),
    "another key": lambda: Parcel(slip=cast(Slip, {"weight": Decimal(1), "height": 3})),
    "an argument": lambda: Parcel(stamp=Stamped(3, 2)),
    "keys alike": lambda: Parcel(rest={1: "a", "1": "b"}),
    "keys alike, with a type": lambda: Parcel(by_either={1: "a", "1": "b"}),
    "a key of another type": lambda: Parcel(by_either={1: "a"}),
    "what is read once": lambda: Parcel(rest=iter([1])),
}
"""Functions that make values which their types would not bring back complete."""


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


@workflow.define(name="contract.doors")
class Doors:
    """Takes a value in by every door, and hands it back."""

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


@workflow.define(name="contract.closed_doors")
class ClosedDoors:
    """Tries to let out, by every door, a value that cannot be kept."""

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


@activity(name="contract_same_parcel", retry_policy_initial_interval=AT_ONCE)
async def same_parcel(parcel: Parcel) -> Parcel:
    """Return the parcel."""
    return parcel


@activity(name="contract_make_parcel", retry_policy_initial_interval=AT_ONCE)
async def make_parcel(name: str) -> Parcel:
    """Return a parcel that would be cut."""
    return CUT_PARCELS[name]()


@workflow.define(name="contract.typed_doors")
class TypedDoors:
    """Takes a value with types in by every door, and hands it back."""

    def __init__(self) -> None:
        self.held: list[Parcel] = []

    @workflow.entrypoint
    async def run(self, parcel: Parcel) -> Parcel:
        self.held.append(await same_parcel(parcel))
        await workflow.wait_condition(lambda: len(self.held) == 3)
        return self.held[0]

    @workflow.signal
    def put(self, parcel: Parcel) -> None:
        self.held.append(parcel)

    @workflow.update
    async def exchange(self, parcel: Parcel) -> Parcel:
        self.held.append(await same_parcel(parcel))
        return parcel

    @workflow.query
    def look(self, place: int) -> Parcel:
        return self.held[place]

    @workflow.query
    def echo(self, parcel: Parcel) -> Parcel:
        return parcel


@workflow.define(name="contract.closed_typed_doors")
class ClosedTypedDoors:
    """Tries to let out, by every door, a value that would be cut."""

    def __init__(self) -> None:
        self.finished = False

    @workflow.entrypoint
    async def run(self, name: str) -> Parcel:
        refused = []
        for attempt in (same_parcel(CUT_PARCELS[name]()), make_parcel(name)):
            try:
                await attempt
            except Unserialisable as error:
                refused.append(type(error).__name__)
        await record(f"{name}: {', '.join(refused)}")
        await workflow.wait_condition(lambda: self.finished)
        return CUT_PARCELS[name]()

    @workflow.signal
    def finish(self) -> None:
        self.finished = True

    @workflow.query
    def look(self, name: str) -> Parcel:
        return CUT_PARCELS[name]()

    @workflow.update
    async def change(self, name: str) -> Parcel:
        return CUT_PARCELS[name]()


@activity(name="contract_names", retry_policy_initial_interval=AT_ONCE)
async def names(id: str, name: str, timeout: int, backend: str, task_queue: str) -> list[Any]:
    """Return what it is given."""
    return [id, name, timeout, backend, task_queue]


@workflow.define(name="contract.names")
class Names:
    """Has parameters with the names of options of the library."""

    def __init__(self) -> None:
        self.noted: list[Any] = []

    @workflow.entrypoint
    async def run(self, id: str, task_queue: str, backend: str, name: str, timeout: int) -> list[Any]:
        given = await names(id=id, name=name, timeout=timeout, backend=backend, task_queue=task_queue)
        await workflow.wait_condition(lambda: bool(self.noted))
        return [*given, *self.noted]

    @workflow.signal
    def note(self, id: str, name: str, timeout: int) -> None:
        self.noted = [id, name, timeout]

    @workflow.update
    async def answer(self, id: str, name: str, timeout: int = 0) -> list[Any]:
        return [id, name, timeout]

    @workflow.query
    def look(self, id: str, name: str, timeout: int) -> list[Any]:
        return [id, name, timeout]


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
    """Fails by every door with a text that is hard to carry."""

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
        started = {name: (await stage.start(Doors, value))[0] for name, value in KEPT.items()}
        process = await stage.worker(Doors)
        for name, execution in started.items():
            await execution.signal("put", KEPT[name])
            answer = await stage.soon(execution.update("exchange", KEPT[name]))
            assert repr(answer) == repr(KEPT[name]), name
        await stage.soon(process.stop())
        await stage.worker(Doors)
        for name, execution in started.items():
            assert repr(await stage.soon(execution.result())) == repr(KEPT[name]), name
            for place in range(3):
                assert repr(await stage.soon(execution.query("look", place))) == repr(KEPT[name]), name

    async def test_d12_a_value_that_cannot_be_kept_is_refused_where_it_is_given(self, stage: Stage) -> None:
        execution, _ = await stage.start(Doors, None)
        backend = (await stage.worker(Doors)).backend
        for make_value in REFUSED.values():
            with pytest.raises(Unserialisable):
                await backend.start(Doors, make_value(), id=stage.new_id())
            with pytest.raises(Unserialisable):
                await stage.soon(execution.signal("put", make_value()))
            with pytest.raises(Unserialisable):
                await stage.soon(execution.update("exchange", make_value()))

    async def test_d12_a_value_that_cannot_be_kept_never_leaves_the_code_that_made_it(
        self, stage: Stage
    ) -> None:
        started = {name: await stage.start(ClosedDoors, name) for name in REFUSED}
        await stage.worker(ClosedDoors)
        for name, (execution, world) in started.items():
            for attempt in (execution.query("look", name), execution.update("change", name)):
                with pytest.raises((Unserialisable, UpdateFailed)):
                    await stage.soon(attempt)
            await execution.signal("finish")
            with pytest.raises(ExecutionFailed) as failed:
                await stage.soon(execution.result())
            assert isinstance(failed.value.__cause__, Unserialisable), name
            assert world.count(f"{name}: Unserialisable, Unserialisable") == 1

    async def test_d2_a_typed_value_is_unchanged_at_every_entry(self, stage: Stage) -> None:
        started = {name: (await stage.start(TypedDoors, parcel))[0] for name, parcel in KEPT_PARCELS.items()}
        process = await stage.worker(TypedDoors)
        for name, execution in started.items():
            parcel = KEPT_PARCELS[name]
            await execution.signal("put", parcel)
            assert await stage.soon(execution.update("exchange", parcel)) == parcel, name
            assert await stage.soon(execution.query("echo", parcel)) == parcel, name
        await stage.soon(process.stop())
        await stage.worker(TypedDoors)
        for name, execution in started.items():
            assert await stage.soon(execution.result()) == KEPT_PARCELS[name], name
            for place in range(3):
                assert await stage.soon(execution.query("look", place)) == KEPT_PARCELS[name], name

    async def test_d12_a_value_that_its_type_would_shorten_is_refused_where_it_is_given(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(TypedDoors, Parcel())
        backend = (await stage.worker(TypedDoors)).backend
        for make_value in CUT_PARCELS.values():
            with pytest.raises(Unserialisable):
                await backend.start(TypedDoors, make_value(), id=stage.new_id())
            with pytest.raises(Unserialisable):
                await stage.soon(execution.signal("put", make_value()))
            for attempt in (
                execution.update("exchange", make_value()),
                execution.query("echo", make_value()),
            ):
                with pytest.raises(Unserialisable):
                    await stage.soon(attempt)

    async def test_d12_a_value_that_its_type_would_shorten_never_leaves_the_code_that_made_it(
        self, stage: Stage
    ) -> None:
        started = {name: await stage.start(ClosedTypedDoors, name) for name in CUT_PARCELS}
        await stage.worker(ClosedTypedDoors)
        for name, (execution, world) in started.items():
            for attempt in (execution.query("look", name), execution.update("change", name)):
                with pytest.raises((Unserialisable, UpdateFailed)):
                    await stage.soon(attempt)
            await execution.signal("finish")
            with pytest.raises(ExecutionFailed) as failed:
                await stage.soon(execution.result())
            assert isinstance(failed.value.__cause__, Unserialisable), name
            assert world.count(f"{name}: Unserialisable, Unserialisable") == 1

    async def test_arguments_may_have_the_names_of_options(self, stage: Stage) -> None:
        backend = (await stage.worker(Names)).backend
        given: dict[str, Any] = {"name": "n", "timeout": 3}
        execution = await backend.start(Names, "i", "q", "b", **given, id=stage.new_id())
        assert await stage.soon(execution.query("look", id="i", **given)) == ["i", "n", 3]
        assert await stage.soon(execution.update("answer", "i", id="u-1", **given)) == ["i", "n", 3]
        assert await stage.soon(execution.update("answer", "i", name="n")) == ["i", "n", 0]
        await execution.signal("note", id="j", name="m", timeout=4)
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
