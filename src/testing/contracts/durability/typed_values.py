"""Values of declared types: each comes back with its types, or is refused where it is given."""

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

from outlast.core.errors import ExecutionFailed, Unserialisable, UpdateFailed
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.testing.contracts.durability.activities import AT_ONCE, record
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage


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

SHORTENED_PARCELS: dict[str, Callable[[], Parcel]] = {
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


@activity(name="contract_same_parcel", retry_policy_initial_interval=AT_ONCE)
async def same_parcel(parcel: Parcel) -> Parcel:
    """Return the parcel."""
    return parcel


@activity(name="contract_make_parcel", retry_policy_initial_interval=AT_ONCE)
async def make_parcel(name: str) -> Parcel:
    """Return a parcel that its type would shorten."""
    return SHORTENED_PARCELS[name]()


@workflow.define(name="contract.typed_entries")
class TypedEntries:
    """Takes a typed value at every entry, and returns it."""

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


@workflow.define(name="contract.typed_exits")
class TypedExits:
    """Tries to return, at every exit, a value that its type would shorten."""

    def __init__(self) -> None:
        self.finished = False

    @workflow.entrypoint
    async def run(self, name: str) -> Parcel:
        refused = []
        for attempt in (same_parcel(SHORTENED_PARCELS[name]()), make_parcel(name)):
            try:
                await attempt
            except Unserialisable as error:
                refused.append(type(error).__name__)
        await record(f"{name}: {', '.join(refused)}")
        await workflow.wait_condition(lambda: self.finished)
        return SHORTENED_PARCELS[name]()

    @workflow.signal
    def finish(self) -> None:
        self.finished = True

    @workflow.query
    def look(self, name: str) -> Parcel:
        return SHORTENED_PARCELS[name]()

    @workflow.update
    async def change(self, name: str) -> Parcel:
        return SHORTENED_PARCELS[name]()


class TypedValueContract(DurabilityContractBase):
    """D2, D12: a kept value of a declared type equals the given value."""

    async def test_d2_a_typed_value_is_unchanged_at_every_entry(self, stage: Stage) -> None:
        started = {
            name: (await stage.start(TypedEntries, parcel))[0] for name, parcel in KEPT_PARCELS.items()
        }
        process = await stage.worker(TypedEntries)
        for name, execution in started.items():
            parcel = KEPT_PARCELS[name]
            await execution.signal("put", parcel)
            assert await stage.soon(execution.update("exchange", parcel)) == parcel, name
            assert await stage.soon(execution.query("echo", parcel)) == parcel, name
        await stage.soon(process.stop())
        await stage.worker(TypedEntries)
        for name, execution in started.items():
            assert await stage.soon(execution.result()) == KEPT_PARCELS[name], name
            for place in range(3):
                assert await stage.soon(execution.query("look", place)) == KEPT_PARCELS[name], name

    async def test_d12_a_value_that_its_type_would_shorten_is_refused_where_it_is_given(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(TypedEntries, Parcel())
        backend = (await stage.worker(TypedEntries)).backend
        for make_value in SHORTENED_PARCELS.values():
            with pytest.raises(Unserialisable):
                await backend.start(TypedEntries, make_value(), id=stage.new_id())
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
        started = {name: await stage.start(TypedExits, name) for name in SHORTENED_PARCELS}
        await stage.worker(TypedExits)
        for name, (execution, world) in started.items():
            for attempt in (execution.query("look", name), execution.update("change", name)):
                with pytest.raises((Unserialisable, UpdateFailed)):
                    await stage.soon(attempt)
            await execution.signal("finish")
            with pytest.raises(ExecutionFailed) as failed:
                await stage.soon(execution.result())
            assert isinstance(failed.value.__cause__, Unserialisable), name
            assert world.count(f"{name}: Unserialisable, Unserialisable") == 1
