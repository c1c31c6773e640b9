"""Values through JSON: the value that comes back equals the given one, or the call is refused.

No postponed annotations here: pydantic is to see real ones.
"""

import dataclasses
import enum
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SerializeAsAny,
    StringConstraints,
    computed_field,
    model_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from outlast.core.errors import DefinitionError, Unserialisable
from outlast.runtime.definitions.codec import Codec, Misfit
from outlast.runtime.definitions.signature import CallableSignature

# Classes that hold something which a type hint may not say ----------------------------------------------


class Animal(BaseModel):
    name: str


class Dog(Animal):
    breed: str = "lab"


class Puppy(Dog):
    pass


class Login(BaseModel):
    user: str
    token: str = Field("none", exclude=True)


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    number: int = 0


class Cached(BaseModel):
    number: int
    _cache: list[int] = PrivateAttr(default_factory=list)

    @computed_field  # type: ignore[prop-decorator]  # as pydantic has it
    @property
    def double(self) -> int:
        return 2 * self.number


class Raw(BaseModel):
    data: bytes


class RawInBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


class Sparse(BaseModel):
    """A class that its own serialiser writes without fields that are 0."""

    x: int = 0
    y: int = 0

    @model_serializer
    def _sparse(self) -> dict[str, int]:
        return {name: value for name, value in (("x", self.x), ("y", self.y)) if value}


class Named(BaseModel):
    first: str = Field(validation_alias=AliasChoices("first_name", AliasPath("names", 0)))
    last: str = Field(alias="last_name")


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    login: Login | None = None


class Mouse(BaseModel):
    kind: Literal["mouse"] = "mouse"
    seen: Any = None


Pet = Annotated[Cat | Mouse, Field(discriminator="kind")]


class Options(TypedDict, total=False):
    a: int
    since: date


class Place(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass
class Box:
    w: int
    animal: Animal | None = None
    rest: Any = None


@dataclasses.dataclass
class BigBox(Box):
    h: int = 1


@pydantic_dataclass
class Crate:
    w: int
    label: str = Field("none", exclude=True)


@dataclasses.dataclass(eq=False)
class Unequal:
    at: date


@dataclasses.dataclass
class Scaled:
    w: int
    scale: dataclasses.InitVar[int] = 1
    area: int = 0

    def __post_init__(self, scale: int) -> None:
        self.area = self.w * scale


@dataclasses.dataclass
class Hidden:
    """Keeps a value made from its argument, in no field."""

    w: int
    scale: dataclasses.InitVar[int] = 1

    def __post_init__(self, scale: int) -> None:
        self.area = self.w * scale


@dataclasses.dataclass
class Derived:
    w: int
    area: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.area = self.w * 2


@dataclasses.dataclass(slots=True)
class Node:
    data: bytes
    next: Optional["Node"] = None


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Size(str, enum.Enum):  # noqa: UP042 (many are still written so)
    BIG = "big"


class Moody:
    """A value that raises when it is compared."""

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]  # as Python would have it


def with_cache() -> Cached:
    cached = Cached(number=1)
    cached._cache.append(7)
    return cached


def codec(hint: Any) -> Codec:
    return Codec(hint, owner="it")


def numbered(cases: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [pytest.param(*case, id=str(number)) for number, case in enumerate(cases)]


def through(hint: Any, value: Any) -> Any:
    one = codec(hint)
    return one.load(one.dump(value))


DAY = date(2026, 1, 2)
DOG = Dog(name="Rex")
LOGIN = Login(user="u", token="T")

KEPT: list[tuple[Any, Any]] = [
    (Dog, DOG),
    (Animal | Dog, DOG),
    (Dog | Animal, DOG),
    (list[Dog], [DOG, Dog(name="b")]),
    (Login, Login(user="u")),
    (Loose, Loose(number=1, other=[2])),  # type: ignore[call-arg]  # extra
    (Cached, Cached(number=1)),
    (Cached, with_cache()),
    (Raw, Raw(data=b"text")),
    (RawInBase64, RawInBase64(data=b"\xff")),
    (Sparse, Sparse(y=2)),
    (Page[int], Page[int](items=[1])),
    (RootModel[list[Animal]], RootModel[list[Animal]]([Animal(name="a")])),
    (Pet, Cat(login=Login(user="u"))),
    (Pet, Mouse(seen=[1])),
    (Options, {"a": 1, "since": DAY}),
    (Place, Place(1, 2)),
    (list[Place], [Place(1, 2)]),
    (tuple[int, ...], (1, 2, 3)),
    (tuple[int, str], (1, "a")),
    (Box, Box(1, Animal(name="a"), {"x": [1]})),
    (Box | BigBox, BigBox(1, h=2)),
    (Crate, Crate(1, "none")),
    (Unequal, Unequal(DAY)),
    (Scaled, Scaled(2)),
    (Hidden, Hidden(2)),
    (Derived, Derived(2)),
    (Node, Node(b"\xff", Node(b"\x00"))),
    (bytes | int, b"\xff"),
    (date | str, DAY),
    (datetime | None, datetime(2026, 1, 2, tzinfo=UTC)),
    (Decimal, Decimal("1.50")),
    (deque[int], deque([1])),
    (defaultdict[str, int], defaultdict(int, {"a": 1})),
    (OrderedDict[str, int], OrderedDict(a=1)),
    (dict[int, str], {1: "a"}),
    (dict[date, list[Dog]], {DAY: [DOG]}),
    (frozenset[str], frozenset("ab")),
    (Colour, Colour.RED),
    (Literal[Colour.RED], Colour.RED),
    (Literal[Colour.RED, Size.BIG, "x", 3], Colour.RED),
    (Literal[Colour.RED, Size.BIG, "x", 3], Size.BIG),
    (list[Literal[Colour.RED, "x"]], ["x", Colour.RED]),
    (dict[str, Any], {"a": {"1": 1, "True": 2}}),
    (str, "half \ud800"),
    (list[str], ["half \ud800"]),
    (dict[str, str], {"\udfff": "\ud800"}),
    (Animal, Animal(name="half \ud800")),
    (Box, Box(1, None, "half \ud800")),
    (Any, {"half \ud800": 1}),
]


@pytest.mark.parametrize(("hint", "value"), numbered(KEPT))
def test_a_value_comes_back_as_it_was(hint: Any, value: Any) -> None:
    back = through(hint, value)
    assert type(back) is type(value)
    assert isinstance(value, datetime) or repr(back) == repr(value)
    assert isinstance(value, (Unequal, Cached)) or back == value
    if isinstance(value, Hidden):
        assert back.area == value.area


AS_GOOD: list[tuple[Any, Any, Any]] = [
    (list[int], (1, 2), [1, 2]),
    (tuple[int, ...], [1, 2], (1, 2)),
    (Sequence[int], (1, 2), [1, 2]),
    (set[int], [1, 2], {1, 2}),
    (list[str], {"a": 1}.keys(), ["a"]),
    (list[int], deque([1, 2]), [1, 2]),
    (float, 1, 1.0),
    (int, "3", 3),
    (date, "2026-01-02", DAY),
    (Size, "big", Size.BIG),
    (str, Size.BIG, "big"),
    (Colour, "r", Colour.RED),
    (Literal[Colour.RED], "r", Colour.RED),
    (dict[str, int], defaultdict(int, {"a": 1}), {"a": 1}),
    (Animal, {"name": "a"}, Animal(name="a")),
    (list[Animal], [{"name": "a"}], [Animal(name="a")]),
    (Loose, {"number": 1, "more": 2}, Loose(number=1, more=2)),  # type: ignore[call-arg]  # extra
    (Box, {"w": 1, "animal": {"name": "a"}}, Box(1, Animal(name="a"))),
    (Scaled, {"w": 2}, Scaled(2)),
    (Named, {"first_name": "A", "last_name": "B"}, Named(first_name="A", last_name="B")),
    (Named, {"names": ["A"], "last": "B"}, Named(first_name="A", last_name="B")),
    (Options, {"since": "2026-01-02"}, {"since": DAY}),
    (Page[int], Page(items=[1]), Page[int](items=[1])),
    (Annotated[str, StringConstraints(strip_whitespace=True)], " a ", "a"),
    (str, "\ud83d\ude00", "😀"),  # JSON knows no difference.
    (list[str], ["\ud83d\ude00"], ["😀"]),
]


@pytest.mark.parametrize(("hint", "value", "meant"), numbered(AS_GOOD))
def test_a_value_that_the_type_accepts_comes_back_as_the_type(hint: Any, value: Any, meant: Any) -> None:
    assert repr(through(hint, value)) == repr(meant)
    assert through(hint, meant) == meant


BY_ITS_OWN_TYPE: list[tuple[Any, Any, Any]] = [
    (Any, DAY, "2026-01-02"),
    (object, DAY, "2026-01-02"),
    (Any, (1, DAY), [1, "2026-01-02"]),
    (Any, {DAY: {1, 2}}, {"2026-01-02": [1, 2]}),
    (Any, DOG, {"name": "Rex", "breed": "lab"}),
    (Any, Login(user="u"), {"user": "u"}),
    (Any, Sparse(x=1), {"x": 1}),
    (Any, RootModel[list[date]]([DAY]), ["2026-01-02"]),
    (Any, Place(1, 2), [1, 2]),
    (Any, Box(1, DOG), {"w": 1, "animal": {"name": "Rex", "breed": "lab"}, "rest": None}),
    (dict, {1: Colour.RED}, {"1": "r"}),
    (dict[str, Any], {"a": b"\xff"}, {"a": "_w=="}),
    (list, [Decimal("1.0")], ["1.0"]),
    (tuple, (DAY,), ("2026-01-02",)),
    (Box, Box(1, rest=DAY), Box(1, rest="2026-01-02")),
    (Loose, Loose(number=1, at=DAY), Loose(number=1, at="2026-01-02")),  # type: ignore[call-arg]  # extra
    (deque[Any], deque([DAY]), deque(["2026-01-02"])),
    (Pet, Mouse(seen=DAY), Mouse(seen="2026-01-02")),
]


@pytest.mark.parametrize(("hint", "value", "meant"), numbered(BY_ITS_OWN_TYPE))
def test_where_a_hint_says_nothing_the_json_of_a_value_comes_back(hint: Any, value: Any, meant: Any) -> None:
    assert repr(through(hint, value)) == repr(meant)


def generator() -> Generator[int, None, None]:
    yield 1


LOST: list[tuple[Any, Any, str]] = [
    (Animal, DOG, "it is a Dog, and would come back as Animal"),
    (Dog, Puppy(name="a"), "it is a Puppy, and would come back as Dog"),
    (Animal | None, DOG, "it is a Dog"),
    (Dog | Animal, Animal(name="a"), "it is a Animal, and would come back as Dog"),
    (BaseModel, DOG, "it is a Dog, and would come back as BaseModel"),
    (list[Animal], [Animal(name="a"), DOG], r"\[1\]: it is a Dog"),
    (dict[str, Animal], {"x y": DOG}, r'\["x y"\]: it is a Dog'),
    (Box, Box(1, DOG), "animal: it is a Dog"),
    (Box, BigBox(1), "it is a BigBox, and would come back as Box"),
    (Page[Animal], Page[Animal](items=[DOG]), r"items\[0\]: it is a Dog"),
    (RootModel[list[Animal]], RootModel[list[Animal]]([DOG]), r"root\[0\]: it is a Dog"),
    (SerializeAsAny[Animal], DOG, "it is a Dog"),
    (tuple[int, int], Place(1, 2), "it is a Place, and would come back as tuple"),
    (tuple, Place(1, 2), "it is a Place"),
    (list[tuple[int, int]], [Place(1, 2)], r"\[0\]: it is a Place"),
    (list[int], Place(1, 2), "it is a Place"),
    (Login, LOGIN, "token: the field has exclude=True"),
    (Crate, Crate(1, "x"), "label: the field has exclude=True"),
    (Pet, Cat(login=LOGIN), "login.token: the field has exclude=True"),
    (Any, LOGIN, "token: the JSON of a Login leaves this field out"),
    (dict[str, Any], {"a": [LOGIN]}, r"a\[0\].token"),
    (Loose, Loose(login=LOGIN), "login.token"),  # type: ignore[call-arg]  # extra
    (Options, {"a": 1, "b": 2}, "b: the type hint has no such key"),
    (Options, {"since": DAY, "b": 2}, "b: the type hint has no such key"),
    (Animal, {"name": "a", "age": 3}, "age: Animal has no such field"),
    (list[Box], [{"w": 1, "animal": {"name": "a", "age": 3}}], r"\[0\].animal.age: Animal has no such field"),
    (Scaled, Scaled(2, 10), "Scaled has an InitVar"),
    (Hidden, Hidden(2, 10), "Hidden has an InitVar"),
    (set[int], [1, 1], "it has equal items"),
    (str, b"abc", "it is a bytes, and would come back as str"),
    (datetime, DAY, "it is a date, and would come back as datetime"),
    (list[list[str]], Animal(name="a"), "it is a Animal, and would come back as list"),
    (list[int], generator(), "it is a generator, and would come back as list"),
    (dict[int | str, str], {1: "a"}, "its key would come back as another one"),
    (dict[int | str, str], {1: "a", "1": "b"}, "keys that become the same text"),
    (dict[str, Any], {"half \ud800": DAY}, "its key would come back as another one"),
    (Any, {"half \ud800": DAY}, "half a character"),
    (bytes | str, "abc", "it is a str, and would come back as bytes"),
    (Raw, Raw(data=b"\xff"), "model_config with ser_json_bytes"),
    (Annotated[int, AfterValidator(lambda number: number + 1)], 1, "it would come back as another value"),
    (Any, generator(), "can be read only once"),
    (dict[str, Any], {"a": map(str, [1])}, "can be read only once"),
    (Literal[Colour.RED], Colour.BLUE, "expected 'r'"),
]


@pytest.mark.parametrize(("hint", "value", "problem"), numbered(LOST))
def test_a_value_that_would_not_come_back_whole_is_refused(hint: Any, value: Any, problem: str) -> None:
    with pytest.raises(Misfit, match=problem):
        codec(hint).dump(value)


ALIKE_AS_TEXT = [1, "1", 1.0, "1.0", True, "True", "true", None, "None", "null", DAY, "2026-01-02", 2, "x"]


@given(
    st.sampled_from([Any, dict, dict[Any, Any], dict[str, Any], list[Any], Box, Loose]),
    st.dictionaries(st.sampled_from(ALIKE_AS_TEXT), st.integers(), max_size=6),
)
@example(Any, {1: 1, "1": 2})
@example(dict, {None: 1, "None": 2})
def test_no_key_of_a_dict_takes_the_place_of_another(hint: Any, inner: dict[Any, int]) -> None:
    value: Any = inner
    if hint is list[Any]:
        value = [[inner]]
    elif hint is Box:
        value = Box(1, rest=inner)
    elif hint is Loose:
        value = Loose(extra=inner)  # type: ignore[call-arg]  # extra
    texts = [str(key) if not isinstance(key, bool) else str(key).lower() for key in inner]
    try:
        back = through(hint, value)
    except Misfit:
        return
    match value:
        case list():
            back = back[0][0]
        case Box():
            back = back.rest
        case Loose():
            back = back.extra
    assert sorted(back.values()) == sorted(inner.values())
    assert len(set(texts)) == len(texts)


# Any value for any hint ----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=()), max_size=3)
animals = st.one_of(st.builds(Animal, name=texts), st.builds(Dog, name=texts), st.builds(Puppy, name=texts))
leaves: st.SearchStrategy[Any] = st.one_of(
    texts,
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.binary(max_size=3),
    st.dates(),
    st.sampled_from([*Colour, *Size]),
    animals,
    st.builds(Login, user=texts, token=st.sampled_from(["none", "T"])),
    st.builds(Loose, number=st.integers(), more=st.dates() | texts),
    st.builds(Place, st.integers(), st.integers()),
    st.builds(Box, st.integers(), st.none() | animals, texts),
    st.builds(BigBox, st.integers()),
    st.builds(Scaled, st.integers(), st.integers()),
    st.builds(Unequal, st.dates()),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(texts | st.integers() | st.dates(), inner, max_size=3),
    ),
    max_leaves=4,
)
hints = st.recursive(
    st.sampled_from(
        [str, int, float, bool, None, bytes, date, Colour, Size, Literal[Colour.RED, "x", 1],
         Animal, Dog, Puppy, Login, Place, Box, BigBox, Scaled, Unequal, Options, BaseModel]
    ),
    lambda inner: st.one_of(
        inner.map(lambda one: list[one]),  # type: ignore[valid-type]  # made here
        inner.map(lambda one: tuple[one, ...]),  # type: ignore[valid-type]  # made here
        inner.map(lambda one: dict[str, one]),  # type: ignore[valid-type]  # made here
        inner.map(lambda one: Optional[one]),  # noqa: UP045
        st.tuples(inner, inner).map(lambda some: some[0] | some[1] if None not in some else Optional[some[0]]),  # noqa: UP045, E501
    ),
    max_leaves=3,
)  # fmt: skip


def is_as_good(value: Any, back: Any) -> bool:
    """Return whether all of a value has come back, apart from types that JSON does not distinguish."""
    if isinstance(value, (Place, Colour, BaseModel, bytes, date, Unequal, Scaled, Box)):
        if isinstance(value, Colour) and back == value.value:
            return False
        parts = ("at",) if isinstance(value, Unequal) else ()
        whole = all(getattr(value, name) == getattr(back, name, None) for name in parts)
        return type(value) is type(back) and whole and (bool(parts) or repr(value) == repr(back))
    if isinstance(value, (list, tuple)):
        return (
            isinstance(back, (list, tuple)) and len(value) == len(back) and all(map(is_as_good, value, back))
        )
    if isinstance(value, dict):
        held = back if isinstance(back, dict) else {key: getattr(back, str(key)) for key in value}
        return len(held) == len(value) and all(map(is_as_good, value.values(), held.values()))
    return back is not None or value in (None, "")


@given(hints, values)
@example(Animal, DOG)
@example(dict[str, Animal], {"a": DOG})
@example(str | date, DAY)
@example(bytes | str, "abc")
@example(list[Login | Dog], [DOG, LOGIN])
@example(Optional[Box], Box(1, DOG))  # noqa: UP045
def test_with_any_hint_a_value_comes_back_whole_or_not_at_all(hint: Any, value: Any) -> None:
    try:
        back = through(hint, value)
    except Misfit:
        return
    assert is_as_good(value, back), (hint, value, back)


@given(
    st.data(),
    st.sampled_from([*KEPT, *((hint, value) for hint, value, _ in AS_GOOD)]).filter(
        # pydantic writes no key with half a character.
        lambda one: not (isinstance(one[1], dict) and "\\ud" in ascii(one[1].keys()))
    ),
)
def test_values_in_containers_come_back_like_values_outside(
    data: st.DataObject, one: tuple[Any, Any]
) -> None:
    hint, value = one
    meant = through(hint, value)
    outer: Callable[[Any], Any] = data.draw(
        st.sampled_from([lambda x: [x], lambda x: (x,), lambda x: {"a": x}])
    )
    kinds: dict[type, Any] = {list: list[hint], tuple: tuple[hint], dict: dict[str, hint]}  # type: ignore[valid-type]  # made here
    kind = kinds[type(outer(0))]
    assert repr(through(kind, outer(value))) == repr(outer(meant))
    assert repr(through(Optional[kind], outer(value))) == repr(outer(meant))  # noqa: UP045


def test_a_value_that_refuses_to_be_compared_is_refused() -> None:
    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        number: int

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

    back = through(Holder, Holder(number=1))
    assert (type(back), back.number) == (Holder, 1)


# Definitions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hint", [Iterable[int], Generator[int, None, None], list[Iterable[int]], dict[str, Iterable[int]]]
)
def test_a_type_whose_items_are_read_one_by_one_is_refused_where_it_is_defined(hint: Any) -> None:
    def fn(numbers: hint) -> None: ...

    with pytest.raises(DefinitionError, match=r"parameter 'numbers' of 'fn'.*use list\[\.\.\.\]"):
        _ = CallableSignature.of(fn).parameters


def test_a_literal_that_pydantic_reads_by_itself_is_refused_where_it_is_defined() -> None:
    class Painted(BaseModel):
        colour: Literal[Colour.RED]

    @pydantic_dataclass
    class AlsoPainted:
        colour: Literal[Colour.RED]

    for hint in (Painted, list[Painted], AlsoPainted):
        with pytest.raises(DefinitionError, match=r"Literal in .*ainted has an enum member"):
            _ = codec(hint).adapter


def test_a_literal_of_an_enum_is_offered_to_models_as_it_is_read() -> None:
    @dataclasses.dataclass
    class Paint:
        colour: Literal[Colour.RED]

    def fn(one: Literal[Colour.RED, "x"], other: Paint) -> None: ...

    signature = CallableSignature.of(fn)
    properties: Any = signature.parameters["properties"]
    assert properties["one"] == {
        "anyOf": [{"type": "string", "enum": ["r"]}, {"const": "x", "type": "string"}]
    }
    args, kwargs = signature.bind({"one": "r", "other": {"colour": "r"}}).python
    assert (args, kwargs) == ((), {"one": Colour.RED, "other": Paint(Colour.RED)})
    assert signature.load_arguments(signature.dump_arguments(**kwargs)) == ((), kwargs)


def test_the_error_at_the_call_names_the_refused_value() -> None:
    def fn(animals: list[Animal]) -> None: ...

    with pytest.raises(Unserialisable, match=r"argument 'animals' of 'fn'.*\[0\]: it is a Dog") as caught:
        CallableSignature.of(fn).dump_arguments([DOG])
    assert "Rex" not in str(caught.value)


@pytest.mark.parametrize(("hint", "value"), numbered([*KEPT, *((one[0], one[1]) for one in AS_GOOD)]))
def test_a_value_read_back_at_once_equals_the_value_read_later(hint: Any, value: Any) -> None:
    one = codec(hint)
    written, back = one.dump_and_load(value)
    assert written == one.dump(value)
    assert repr(back) == repr(one.load(written))
    assert not isinstance(back, (dict, list)) or back is not written


def test_plain_values_are_written_without_any_work() -> None:
    for hint, value in ((str, "x" * 10_000), (str, "ä"), (int, 3), (float, 1.5), (bool, True), (None, None)):
        one = codec(hint)
        assert one.dump(value) is value
        assert one.load(value) is value
        assert "adapter" not in vars(one)
