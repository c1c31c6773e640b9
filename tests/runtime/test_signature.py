"""A callable's signature, as a model sees it, as the journal keeps it, and as Python calls it.

No postponed annotations here: pydantic and inspect are to see real ones, except where a test says otherwise.
"""

import base64
import enum
import functools
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # untyped
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, RootModel, SecretStr, field_validator
from typing_extensions import TypedDict

from outlast.core.errors import DefinitionError, InvalidArguments, Unserialisable
from outlast.runtime.definitions.signature import CallableSignature

# --- types and their values ---------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = 7


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: int
    title: str = "origin"


@dataclass(frozen=True)
class Route:
    """A way through points."""

    stops: list[Point] = field(default_factory=list)
    at: datetime | None = None


class Tree(BaseModel):
    """A tree of notes."""

    title: str
    size: Decimal = Decimal(0)
    children: list["Tree"] = []


class Aliased(BaseModel):
    kind: Literal["aliased"] = Field(alias="$kind", default="aliased")
    count: int = Field(serialization_alias="n", validation_alias=AliasChoices("amount", "sum"))


class Options(TypedDict):
    title: str
    limit: int | None


@dataclass(frozen=True)
class Kind:
    """A type hint, a strategy for its values, and the kinds of JSON that stand for them."""

    hint: Any
    values: st.SearchStrategy[Any]
    written: frozenset[str]
    hashable: bool = True


def kind(hint: Any, values: st.SearchStrategy[Any], *written: str, hashable: bool = True) -> Kind:
    return Kind(hint, values, frozenset(written), hashable)


points = st.builds(Point, st.integers(), st.text())
moments = st.datetimes(timezones=st.sampled_from([None, UTC]))
numbers = st.decimals(allow_nan=False, allow_infinity=False)
trees = st.recursive(
    st.builds(Tree, title=st.text(), size=numbers),
    lambda children: st.builds(Tree, title=st.text(), children=st.lists(children, max_size=2)),
    max_leaves=3,
)
LEAVES = [
    kind(int, st.integers(), "number"),
    kind(float, st.floats(allow_nan=False, allow_infinity=False), "number"),
    kind(Annotated[int, Field(ge=0, description="not negative")], st.integers(min_value=0), "number"),
    kind(bool, st.booleans(), "boolean"),
    kind(str, st.text(), "string"),
    kind(bytes, st.binary(), "string"),
    kind(None, st.none(), "null"),
    kind(UUID, st.uuids(), "string"),
    kind(Decimal, numbers, "string", "number"),  # Written as text, and read from numbers too.
    kind(date, st.dates(), "string"),
    kind(datetime, moments, "string"),
    kind(time, st.times(), "string"),
    kind(timedelta, st.timedeltas(), "string"),
    kind(Literal["a", 3], st.sampled_from(["a", 3]), "string", "number"),
    kind(Colour, st.sampled_from(Colour), "string", "number"),
    kind(Level, st.sampled_from(Level), "number"),
    kind(Point, points, "object", hashable=False),
    kind(Route, st.builds(Route, st.lists(points), st.none() | moments), "object", hashable=False),
    kind(Tree, trees, "object", hashable=False),
    kind(Options, st.fixed_dictionaries({"title": st.text(), "limit": st.none() | st.integers()}), "object",
         hashable=False),
]  # fmt: skip


def containers(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    def a_list(one: Kind) -> Kind:
        return kind(list[one.hint], st.lists(one.values, max_size=3), "array", hashable=False)  # type: ignore[name-defined]  # made here

    def a_tuple(some: list[Kind]) -> Kind:
        hint: Any = tuple.__class_getitem__(tuple(one.hint for one in some))
        values = st.tuples(*(one.values for one in some))
        return kind(hint, values, "array", hashable=all(one.hashable for one in some))

    def a_long_tuple(one: Kind) -> Kind:
        values = st.lists(one.values, max_size=3).map(tuple)
        return kind(tuple[one.hint, ...], values, "array", hashable=one.hashable)  # type: ignore[name-defined]  # made here

    def a_set(one: Kind) -> Kind:
        return kind(set[one.hint], st.sets(one.values, max_size=3), "array", hashable=False)  # type: ignore[name-defined]  # made here

    def a_frozenset(one: Kind) -> Kind:
        return kind(frozenset[one.hint], st.frozensets(one.values, max_size=3), "array")  # type: ignore[name-defined]  # made here

    def a_dict(one: Kind) -> Kind:
        values = st.dictionaries(st.text(), one.values, max_size=3)
        return kind(dict[str, one.hint], values, "object", hashable=False)  # type: ignore[name-defined]  # made here

    def a_dict_by_date(one: Kind) -> Kind:
        values = st.dictionaries(st.dates(), one.values, max_size=3)
        return kind(dict[date, one.hint], values, "object", hashable=False)  # type: ignore[name-defined]  # made here

    def a_union(some: list[Kind]) -> Kind:
        # JSON distinguishes only values that are written as different kinds of JSON.
        chosen: list[Kind] = []
        for one in some:
            if not any(one.written & other.written for other in chosen):
                chosen.append(one)
        return Kind(
            Union[tuple(one.hint for one in chosen)],  # noqa: UP007
            st.one_of([one.values for one in chosen]),
            frozenset().union(*(one.written for one in chosen)),
            all(one.hashable for one in chosen),
        )

    several = st.lists(inner, min_size=1, max_size=3)
    hashable = inner.filter(lambda one: one.hashable)
    return st.one_of(
        inner.map(a_list), several.map(a_tuple), inner.map(a_long_tuple), hashable.map(a_set),
        hashable.map(a_frozenset), inner.map(a_dict), inner.map(a_dict_by_date), several.map(a_union),
    )  # fmt: skip


kinds = st.recursive(st.sampled_from(LEAVES), containers, max_leaves=4)

# --- signatures and calls -----------------------------------------------------------------------------------

NAMES = ["a", "b", "title", "model_config", "copy", "schema", "self_", "_private", "kwargs_", "défaut"]


@dataclass
class Call:
    """A function that has nothing but a signature, and one way to call it."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def python(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = inspect.signature(self.fn).bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments


@st.composite
def calls(draw: st.DrawFn) -> Call:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    sorts = sorted(
        draw(st.sampled_from([0, 1, 3])) for _ in names
    )  # The values of positional-only, either, keyword-only.
    parameters, args, kwargs = [], [], {}
    has_default = by_name = False
    for name, sort in zip(names, sorts, strict=True):
        parameter_kind = inspect._ParameterKind(sort)
        one = draw(kinds)
        has_default = draw(st.booleans()) or (has_default and sort != inspect.Parameter.KEYWORD_ONLY)
        default = draw(one.values) if has_default else inspect.Parameter.empty
        parameters.append(inspect.Parameter(name, parameter_kind, default=default, annotation=one.hint))
        if has_default and draw(st.booleans()):
            by_name = True  # Whatever follows can be given only by name.
            continue
        if sort == inspect.Parameter.POSITIONAL_ONLY and not by_name:
            args.append(draw(one.values))
        elif sort != inspect.Parameter.POSITIONAL_ONLY:
            by_name = by_name or sort == inspect.Parameter.KEYWORD_ONLY or draw(st.booleans())
            if by_name:
                kwargs[name] = draw(one.values)
            else:
                args.append(draw(one.values))
        elif not has_default:
            args.append(draw(one.values))
    if draw(st.booleans()):
        rest = draw(kinds)
        parameters.append(inspect.Parameter("rest", inspect.Parameter.VAR_KEYWORD, annotation=rest.hint))
        more = draw(st.dictionaries(st.text().filter(lambda one: one not in names), rest.values, max_size=2))
        kwargs |= more

    def fn(*args: Any, **kwargs: Any) -> None: ...

    fn.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # where inspect looks
    fn.__annotations__ = {one.name: one.annotation for one in parameters}
    return Call(fn, tuple(args), kwargs)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


@given(calls())
def test_a_call_comes_back_from_its_json(call: Call) -> None:
    signature = CallableSignature.of(call.fn)
    dumped = through_json(signature.dump_arguments(*call.args, **call.kwargs))
    args, kwargs = signature.load_arguments(dumped)
    assert call.python(args, kwargs) == call.python(call.args, call.kwargs)
    again = signature.dump_arguments(*args, **kwargs)  # With the defaults of positional-only parameters.
    assert {name: again[name] for name in dumped} == dumped


@given(calls())
def test_the_schema_describes_the_values_that_the_journal_writes_and_bind_accepts(call: Call) -> None:
    signature = CallableSignature.of(call.fn)
    Draft202012Validator.check_schema(signature.parameters)
    dumped = through_json(signature.dump_arguments(*call.args, **call.kwargs))
    names = list(inspect.signature(call.fn).parameters)
    shown: Any = signature.parameters["properties"]
    flat = len(names) == 1 and names != ["rest"] and names[0] not in shown
    sent: Any = dumped[names[0]] if flat else dumped
    Draft202012Validator(signature.parameters).validate(sent)
    args, kwargs = signature.bind(sent).python
    assert call.python(args, kwargs) == call.python(call.args, call.kwargs)


@given(st.data(), kinds)
def test_a_result_comes_back_with_its_type(data: st.DataObject, one: Kind) -> None:
    def fn() -> None: ...

    fn.__annotations__ = {"return": one.hint}
    signature = CallableSignature.of(fn)
    value = data.draw(one.values)
    loaded = signature.load_result(through_json(signature.dump_result(value)))
    assert loaded == value
    assert type(loaded) is type(value)


SETS = """
from dataclasses import dataclass
from typing import Any
from pydantic import BaseModel, RootModel
from outlast.runtime.definitions.signature import CallableSignature

@dataclass
class Team:
    names: set[str]

class Club(BaseModel):
    teams: dict[int, Team]
    root: RootModel[frozenset[tuple[str, frozenset[str]]]]

def fn(club: Club, words: set[str], pairs: list[set[str]], rest: Any): ...

letters = set("abcdefgh")
club = Club(teams={1: Team(letters)}, root={(a, frozenset(letters)) for a in letters})
print(CallableSignature.of(fn).dump_arguments(club, letters, [letters], {"x": (letters, Team(letters))}))
"""


def test_sets_are_written_in_one_order_by_every_process() -> None:
    def written(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SETS]
        finished = subprocess.run(
            command, env=environment, check=True, timeout=60, capture_output=True, text=True
        )
        return finished.stdout

    assert written("1") == written("2")


def test_a_member_of_a_union_that_fits_exactly_is_preferred() -> None:
    def fn(x: datetime | Level) -> None: ...

    signature = CallableSignature.of(fn)
    assert signature.load_arguments(signature.dump_arguments(Level.LOW)) == ((), {"x": Level.LOW})


# --- whatever a model sends ---------------------------------------------------------------------------------

any_text = st.text(st.characters(exclude_categories=()))
any_names = any_text | st.sampled_from([*NAMES, "number", "names", "divisor", "raw"])
any_json = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), any_text,
        st.integers(4290, 5000).map(lambda digits: 10**digits),
        st.sampled_from([10**400, -(10**4299), 1e308, "NaN", "1e999", "red", "9999-99-99", "PT1S"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_names, inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@dataclass
class Careless:
    """A class whose own checks fail on unexpected input."""

    divisor: float
    raw: bytes = b""

    def __post_init__(self) -> None:
        self.divisor = 1 / self.divisor


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    number: float = 0.0
    names: dict[str, int] = {}

    @field_validator("names", mode="before")
    @classmethod
    def _first_letters(cls, names: Any) -> Any:
        return {name[0]: names[name] for name in names}


def takes_much(
    a: int,
    b: list[Tree] | dict[str, Colour],
    /,
    title: Any = None,
    *,
    copy: Careless | None = None,
    **more: bytes,
) -> None: ...


def takes_loose(loose: Loose) -> None: ...


def takes_careless(careless: Careless) -> None: ...


def takes_any_set(a: set[Any], b: frozenset[tuple[Any, ...]] = frozenset()) -> None: ...


def answer(fn: Callable[..., Any], sent: Any) -> str:
    """Return the faults that binding reports to the model; empty if binding, and so the journal, accepts."""
    signature = CallableSignature.of(fn)
    refused: InvalidArguments | None = None
    try:
        args, kwargs = signature.bind(sent).python
    except InvalidArguments as error:
        refused = error
    else:
        json.dumps(signature.dump_arguments(*args, **kwargs), allow_nan=False)
    if refused is None:
        return ""
    assert refused.tool == fn.__name__
    assert refused.faults
    for fault in refused.faults:
        assert fault.splitlines() == [fault]
        assert len(fault.encode()) < 2000
        assert "Traceback" not in fault
    return "\n".join(refused.faults)


@given(
    st.sampled_from([takes_much, takes_loose, takes_careless, takes_any_set]),
    st.dictionaries(any_names, any_json, max_size=5) | any_json,
)
@example(takes_much, {"a": float("nan"), "b": []})
@example(takes_much, {"a": 1, "b": [], "title": "\ud800", "\ud800\n": "\ud800"})
@example(takes_any_set, {"a": [[]]})
@example(takes_loose, {"names": {"": 1}, "number": "nan"})
@example(takes_loose, {"number": "nan"})
@example(takes_careless, {"divisor": 0})
@example(takes_careless, {"divisor": 1e-320})
def test_nothing_a_model_sends_raises_anything_but_invalid_arguments(
    fn: Callable[..., Any], sent: Any
) -> None:
    answer(fn, sent)


@pytest.mark.parametrize("depth", [150, 400, 100_000])
def test_no_depth_of_nesting_raises_anything_but_invalid_arguments(depth: int) -> None:
    assert answer(takes_much, {"a": 1, "b": nested(depth)})
    answer(takes_much, {"a": 1, "b": [], "title": nested(depth)})
    assert answer(takes_careless, nested(depth))
    answer(takes_loose, {"others": nested(depth)})


def faults(signature: CallableSignature, sent: Any) -> list[str]:
    with pytest.raises(InvalidArguments) as caught:
        signature.bind(sent)
    return list(caught.value.faults)


def score(deal_type: str, amount: float, tags: list[str] | None = None) -> dict[str, float]:
    """Calculate the risk score of a deal.

    High scores are bad.

    Args:
        deal_type: The type of deal
            being analysed
        amount: The monetary amount
        tags: Labels

    Returns:
        The score.
    """
    return {"risk": amount}


def test_each_fault_is_one_line_that_names_place_expectation_and_what_came() -> None:
    sent = {"amount": "lots", "tags": ["x", 3, None], "currency": "EUR"}
    assert faults(CallableSignature.of(score), sent) == [
        'amount: expected a valid number, unable to parse string as a number; got "lots"',
        "tags[1]: expected a valid string; got 3",
        "tags[2]: expected a valid string; got null",
        'there is no argument "currency"; the arguments are: deal_type, amount, tags',
        "deal_type: missing, and it is required",
    ]


def test_members_of_a_union_complain_in_one_line() -> None:
    def fn(x: int | list[Point]) -> None: ...

    assert faults(CallableSignature.of(fn), {"x": None}) == [
        "x: expected a valid integer or expected a valid array; got null"
    ]
    assert "x[0].x: expected a valid integer; got {}" in faults(CallableSignature.of(fn), {"x": [{"x": {}}]})


def test_a_thousand_faults_are_cut_short() -> None:
    lines = faults(CallableSignature.of(score), {"deal_type": "x", "amount": 1, "tags": list(range(1000))})
    assert len(lines) == 21
    assert lines[-1] == "and 980 more of the kind"


def test_the_error_for_arguments_of_a_tool_without_parameters_says_so() -> None:
    def now() -> str:
        return ""

    assert CallableSignature.of(now).parameters == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }
    assert CallableSignature.of(now).bind({}).python == ((), {})
    assert faults(CallableSignature.of(now), {"tz": 1}) == [
        'there is no argument "tz"; it takes no arguments'
    ]


@pytest.mark.parametrize(("sent", "got"), [("3", 3), (4.0, 4), (5, 5)])
def test_numbers_are_read_leniently(sent: Any, got: int) -> None:
    def fn(n: int) -> None: ...

    assert CallableSignature.of(fn).bind({"n": sent}).python == ((), {"n": got})


def test_standard_and_url_safe_base64_are_bytes() -> None:
    def fn(b: bytes) -> None: ...

    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        assert CallableSignature.of(fn).bind({"b": encode(b"\xfb\xff").decode()}).python == (
            (),
            {"b": b"\xfb\xff"},
        )


# --- the schema ---------------------------------------------------------------------------------------------


def test_schema_and_description_come_from_hints_and_docstring() -> None:
    signature = CallableSignature.of(score)
    assert signature.name == "score"
    assert signature.description == "Calculate the risk score of a deal.\n\nHigh scores are bad."
    assert signature.parameters == {
        "type": "object",
        "properties": {
            "deal_type": {"type": "string", "description": "The type of deal being analysed"},
            "amount": {"type": "number", "description": "The monetary amount"},
            "tags": {
                "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                "default": None,
                "description": "Labels",
            },
        },
        "required": ["deal_type", "amount"],
        "additionalProperties": False,
    }


def test_given_name_and_description_win() -> None:
    signature = CallableSignature.of(score, name="risk", description="Given.")
    assert (signature.name, signature.description) == ("risk", "Given.")


def test_a_field_description_wins_over_the_docstring() -> None:
    def fn(
        a: Annotated[int, Field(description="from Field", ge=1)],
        b: Annotated[Tree, Field(description="B")],
        c: Tree,
    ) -> None:
        """Do.

        Args:
            a: from docstring
            b: from docstring
            c: from docstring
        """

    properties: Any = CallableSignature.of(fn).parameters["properties"]
    assert properties["a"] == {"type": "integer", "minimum": 1, "description": "from Field"}
    assert properties["b"] == {"$ref": "#/$defs/Tree", "description": "B"}
    assert properties["c"] == {"$ref": "#/$defs/Tree", "description": "from docstring"}


def test_titles_go_but_a_property_called_title_stays() -> None:
    def fn(title: str, tree: Tree, point: Point) -> None: ...

    parameters: Any = CallableSignature.of(fn).parameters
    assert parameters["properties"]["title"] == {"type": "string"}
    assert parameters["$defs"]["Tree"]["properties"]["title"] == {"type": "string"}
    assert parameters["properties"]["point"]["properties"]["title"] == {"type": "string", "default": "origin"}
    assert "title" not in parameters["$defs"]["Tree"]


def test_classes_of_the_same_name_do_not_mix() -> None:
    def other() -> Any:
        class Tree(BaseModel):
            leaf: int
            next: Optional["Tree"] = None

        return Tree

    def fn(a: Tree, b: other()) -> None: ...  # type: ignore[valid-type]

    parameters = CallableSignature.of(fn).parameters
    sent = {"a": {"title": "x", "children": []}, "b": {"leaf": 1, "next": {"leaf": 2}}}
    Draft202012Validator(parameters).validate(sent)
    assert not Draft202012Validator(parameters).is_valid({"a": {"title": "x"}, "b": {"title": "y"}})
    _, kwargs = CallableSignature.of(fn).bind(sent).python
    assert kwargs["b"].next.leaf == 2


def test_a_default_that_json_cannot_show_is_left_out() -> None:
    def fn(a: int = object()) -> None: ...  # type: ignore[assignment]

    assert CallableSignature.of(fn).parameters["properties"] == {"a": {"type": "integer"}}
    assert CallableSignature.of(fn).bind({}).python == ((), {})


GOOGLE = "Do it.\n\nNote:\n    Slowly.\n\nArgs:\n    a: The a.\n    unknown: Not there.\n"
NUMPY = "Do it.\n\nNote: Slowly.\n\nParameters\n----------\na : int\n    The a.\n"
SPHINX = "Do it.\n\nNote: Slowly.\n\n:param a: The a.\n:param unknown: Not there.\n:returns: x\n"


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX])
def test_every_docstring_style_is_read_in_silence(
    text: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fn(a: int) -> None: ...

    fn.__doc__ = text
    signature = CallableSignature.of(fn)
    assert signature.description == "Do it.\n\nNote: Slowly."
    assert signature.parameters["properties"] == {"a": {"type": "integer", "description": "The a."}}
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


odd_lines = st.sampled_from(
    ["Args:", "    a: b", "    ", "Returns:", "Note:", "----", "Parameters", ":param a:", ":param", "  x", ""]
)


@given(st.text(st.sampled_from("ab:*- \n\t")) | st.lists(odd_lines).map("\n".join))
def test_any_docstring_is_read_without_an_error(text: str) -> None:
    def fn(a: int) -> None: ...

    fn.__doc__ = text
    assert isinstance(CallableSignature.of(fn).description, str)
    Draft202012Validator.check_schema(CallableSignature.of(fn).parameters)


def test_importing_the_module_and_making_a_signature_loads_no_parser() -> None:
    code = (
        "import sys; from outlast.runtime.definitions.signature import CallableSignature\n"
        "def fn(a: int):\n    '''Do.\n\n    Args:\n        a: A.\n    '''\n"
        "signature = CallableSignature.of(fn); assert 'griffe' not in sys.modules\n"
        "assert signature.description == 'Do.'; assert 'griffe' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- the only parameter -------------------------------------------------------------------------------------


def plan(route: Route) -> None:
    """Plan."""


def grow(tree: Tree) -> None: ...


def choose(options: Options) -> None: ...


@pytest.mark.parametrize(
    ("fn", "fields", "sent", "value"),
    [
        (plan, {"stops", "at"}, {"stops": [{"x": 1}]}, Route([Point(1)])),
        (grow, {"title", "size", "children"}, {"title": "t", "children": [{"title": "u"}]}, None),
        (choose, {"title", "limit"}, {"title": "t", "limit": None}, {"title": "t", "limit": None}),
    ],
)
def test_the_fields_of_an_only_parameter_are_the_arguments(
    fn: Callable[..., Any], fields: set[str], sent: dict[str, Any], value: Any
) -> None:
    signature = CallableSignature.of(fn)
    parameters: Any = signature.parameters
    assert set(parameters["properties"]) == fields
    assert parameters["additionalProperties"] is False
    Draft202012Validator(parameters).validate(sent)
    args, kwargs = signature.bind(sent).python
    (name,) = kwargs
    assert value is None or kwargs[name] == value
    assert list(signature.dump_arguments(**kwargs)) == [name]
    assert signature.load_arguments(signature.dump_arguments(**kwargs)) == (args, kwargs)
    assert 'there is no argument "x"; the arguments are: ' in faults(signature, {**sent, "x": 1})[0]


def test_a_recursive_only_parameter_keeps_its_definition_and_others_lose_it() -> None:
    assert set(CallableSignature.of(grow).parameters["$defs"]) == {"Tree"}  # type: ignore[arg-type]
    assert "$defs" not in CallableSignature.of(choose).parameters


def test_an_only_parameter_of_another_sort_stays_under_its_name() -> None:
    def optional(route: Route | None) -> None: ...
    def defaulted(point: Point = Point(1)) -> None: ...  # noqa: B008
    def rooted(root: RootModel[list[int]]) -> None: ...
    def mapped(mapping: dict[str, int]) -> None: ...
    def rest(**points: Point) -> None: ...

    for fn in (optional, defaulted, rooted, mapped):
        properties: Any = CallableSignature.of(fn).parameters["properties"]
        assert list(properties) == list(inspect.signature(fn).parameters)
    assert CallableSignature.of(rest).parameters["properties"] == {}
    assert CallableSignature.of(rest).bind({"points": {"x": 1}}).python == ((), {"points": Point(1)})


def test_faults_of_an_only_parameter_name_its_fields() -> None:
    assert faults(CallableSignature.of(grow), {"children": [{}]}) == [
        "title: missing, and it is required",
        "children[0].title: missing, and it is required",
    ]


# --- kinds of parameters and callables ----------------------------------------------------------------------


def test_positional_only_keyword_only_and_more_find_their_places() -> None:
    def fn(a: int, b: int = 2, /, c: int = 3, *, d: int, **more: Decimal) -> None: ...

    signature = CallableSignature.of(fn)
    assert signature.parameters["additionalProperties"] == {"anyOf": [{"type": "number"}, {"type": "string"}]}
    assert signature.bind({"a": 1, "d": 4, "more": "1.5"}).python == (
        (1, 2),
        {"d": 4, "more": Decimal("1.5")},
    )
    assert signature.dump_arguments(1, d=4, e=Decimal("1.5")) == {"a": 1, "d": 4, "e": "1.5"}


def test_two_arguments_of_one_name_cannot_be_distinguished() -> None:
    def fn(a: int, /, **more: int) -> None: ...

    with pytest.raises(Unserialisable, match="argument 'a' of 'fn'"):
        CallableSignature.of(fn).dump_arguments(1, a=2)


def test_a_call_that_python_refuses_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"score\(\) missing a required argument: 'amount'"):
        CallableSignature.of(score).dump_arguments("x")


class Desk:
    def sell(self, amount: int) -> str:
        """Sell."""
        return ""

    def __call__(self, amount: int) -> str:
        """Call."""
        return ""


def test_methods_and_callable_objects_have_no_self() -> None:
    for fn, name, description in ((Desk().sell, "sell", "Sell."), (Desk(), "Desk", "Call.")):
        signature = CallableSignature.of(fn)
        assert (signature.name, signature.description) == (name, description)
        assert signature.bind({"amount": "1"}).python == ((), {"amount": 1})
    with pytest.raises(DefinitionError, match="bound method"):
        CallableSignature.of(Desk.sell)


def test_arguments_bound_by_a_partial_are_not_in_the_schema() -> None:
    def search(key: str, query: str, limit: int = 3) -> str:
        """Search."""
        return ""

    signature = CallableSignature.of(functools.partial(functools.partial(search, "sesame"), limit=5))
    assert (signature.name, signature.description) == ("search", "Search.")
    assert list(signature.parameters["properties"]) == ["query"]  # type: ignore[arg-type]
    assert "sesame" not in str(signature) + str(signature.parameters)
    assert signature.dump_arguments("q") == {"query": "q"}


class Clerk:
    def file(self, paper: str, **more: str) -> None: ...


def lookup(key: str, query: str, **more: str) -> None: ...


@pytest.mark.parametrize(
    ("fn", "taken"),
    [
        (Clerk().file, "self"),
        (functools.partial(lookup, "sesame"), "key"),
        (functools.partial(lookup, key="sesame"), "key"),
        (functools.partial(lookup, "sesame", extra="sesame"), "extra"),
    ],
    ids=["method", "positional", "keyword", "extra"],
)
def test_a_model_cannot_replace_what_is_bound_by_naming_it(fn: Callable[..., Any], taken: str) -> None:
    signature = CallableSignature.of(fn)
    (name,) = list(signature.parameters["properties"])  # type: ignore[arg-type]
    assert signature.bind({str(name): "x", "other": "y"}).python == ((), {name: "x", "other": "y"})
    assert faults(signature, {str(name): "x", taken: "y"}) == [
        f'there is no argument "{taken}"; the arguments are: {name}'
    ]


def test_an_argument_may_be_called_self() -> None:
    def fn(**more: int) -> None: ...

    assert CallableSignature.of(fn).dump_arguments(**{"self": 1}) == {"self": 1}


def test_a_wrapped_function_shows_what_it_wraps() -> None:
    @functools.wraps(score)
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    assert CallableSignature.of(wrapper).parameters == CallableSignature.of(score).parameters


# --- bad definitions ----------------------------------------------------------------------------------------


def test_parameters_without_hints_are_refused_by_name() -> None:
    def fn(a, b: int, c=3): ...  # type: ignore[no-untyped-def]

    with pytest.raises(
        DefinitionError, match=r"'fn' has no type hint on 'a', 'c': write `def fn\(a: <type>, c: <type>\)`"
    ):
        CallableSignature.of(fn)
    loose = CallableSignature.of(fn, strict=False)
    assert loose.bind({"a": [1], "b": "2"}).python == ((), {"a": [1], "b": 2})


def test_variable_positional_arguments_are_refused() -> None:
    def fn(*words: str) -> None: ...

    with pytest.raises(DefinitionError, match=r"`words: list\[\.\.\.\]`"):
        CallableSignature.of(fn)


def test_a_field_as_default_is_refused() -> None:
    def fn(a: int = Field(description="x")) -> None: ...

    with pytest.raises(DefinitionError, match="Annotated"):
        CallableSignature.of(fn)


def test_classes_are_refused() -> None:
    with pytest.raises(DefinitionError, match="is a class"):
        CallableSignature.of(Point)


class Opaque:
    pass


@pytest.mark.parametrize(
    "hint", [Opaque, list[Opaque], Callable[[int], int], SecretStr, dict[str, SecretStr]]
)
def test_types_that_json_cannot_carry_are_refused_by_parameter(hint: Any) -> None:
    def fn(a: int, b: hint) -> None: ...

    with pytest.raises(DefinitionError, match="parameter 'b' of 'fn'"):
        _ = CallableSignature.of(fn).parameters


def test_local_names_in_postponed_hints_are_resolved() -> None:
    class Local(BaseModel):
        n: int

    def define() -> CallableSignature:
        def fn(a: "list[Local]", b: list["Local"]) -> "Local":
            return a[0]

        return CallableSignature.of(fn)

    signature = define()
    args, kwargs = signature.bind({"a": [{"n": 1}], "b": []}).python
    assert (args, kwargs) == ((), {"a": [Local(n=1)], "b": []})
    assert signature.load_result({"n": 2}) == Local(n=2)


def test_names_that_come_later_in_the_module_are_resolved_on_first_use() -> None:
    module: dict[str, Any] = {}
    exec("def fn(a: 'Later') -> None: ...", module)
    signature = CallableSignature.of(module["fn"])
    exec("Later = int", module)
    assert signature.bind({"a": "1"}).python == ((), {"a": 1})


def test_names_that_cannot_be_resolved_are_named() -> None:
    def fn(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    signature = CallableSignature.of(fn)
    with pytest.raises(DefinitionError, match="'fn' has a type hint that names 'Nowhere'"):
        _ = signature.parameters


# --- values that do not fit ---------------------------------------------------------------------------------


def test_an_argument_that_json_cannot_carry_is_named_with_its_type() -> None:
    def fn(a: Any, b: int = 0) -> None: ...

    with pytest.raises(Unserialisable) as caught:
        CallableSignature.of(fn).dump_arguments(a=Opaque())
    assert (caught.value.what, caught.value.type_name) == ("argument 'a' of 'fn'", "Opaque")
    with pytest.raises(Unserialisable, match="argument 'b' of 'fn' of type str"):
        CallableSignature.of(fn).dump_arguments(1, "sesame")


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], {"x": Opaque()}, nested(100_000), 10**5000],
    ids=["NaN", "infinity", "object", "nested", "digits"],
)
def test_a_result_that_json_cannot_carry_is_refused(value: Any) -> None:
    def untyped(): ...  # type: ignore[no-untyped-def]
    def typed() -> dict[str, float]: ...  # type: ignore[empty-body]

    for fn in (untyped, typed):
        with pytest.raises(
            Unserialisable, match=f"the result of '{fn.__name__}' of type {type(value).__name__}"
        ):
            CallableSignature.of(fn).dump_result(value)


def test_a_cycle_is_refused() -> None:
    def fn(): ...  # type: ignore[no-untyped-def]

    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(Unserialisable):
        CallableSignature.of(fn).dump_result(cycle)


def test_a_refused_value_is_not_shown() -> None:
    def fn(a: int | list[int]) -> None: ...

    with pytest.raises(Unserialisable) as caught:
        CallableSignature.of(fn).dump_arguments(["sesame"])
    assert "sesame" not in str(caught.value)


def test_a_value_that_could_not_be_read_again_is_refused_when_it_is_written() -> None:
    def fn() -> Annotated[int, Field(lt=10)]: ...  # type: ignore[empty-body]

    with pytest.raises(Unserialisable, match="less than 10"):
        CallableSignature.of(fn).dump_result(11)


def test_values_as_good_as_the_type_are_accepted() -> None:
    def fn(a: list[int], b: Tree, c: float) -> None: ...

    dumped = CallableSignature.of(fn).dump_arguments((1, 2), {"title": "t"}, 1)
    assert CallableSignature.of(fn).load_arguments(dumped) == (
        (),
        {"a": [1, 2], "b": Tree(title="t"), "c": 1.0},
    )


def test_the_journal_goes_by_field_name_and_the_model_by_alias() -> None:
    def fn(a: Aliased, b: int) -> Aliased:
        return a

    signature = CallableSignature.of(fn)
    _, kwargs = signature.bind({"a": {"$kind": "aliased", "amount": 2}, "b": 1}).python
    assert kwargs["a"].count == 2
    assert signature.dump_arguments(**kwargs) == {"a": {"kind": "aliased", "count": 2}, "b": 1}
    assert signature.load_arguments(signature.dump_arguments(**kwargs)) == ((), kwargs)
    assert signature.load_result(signature.dump_result(kwargs["a"])) == kwargs["a"]


def test_arguments_left_to_their_default_are_not_written() -> None:
    assert CallableSignature.of(score).dump_arguments("x", 1.5) == {"deal_type": "x", "amount": 1.5}


def test_records_of_another_signature_raise_an_error_for_the_author() -> None:
    with pytest.raises(DefinitionError, match=r"the recorded arguments of 'score'.*amount: missing"):
        CallableSignature.of(score).load_arguments({"deal_type": "x"})
    with pytest.raises(DefinitionError, match="the recorded result of 'score'"):
        CallableSignature.of(score).load_result([1])


def test_a_function_annotated_none_gives_none() -> None:
    assert CallableSignature.of(plan).dump_result(None) is None
    assert CallableSignature.of(plan).load_result(None) is None
    with pytest.raises(Unserialisable, match="the result of 'plan' of type int"):
        CallableSignature.of(plan).dump_result(3)


def test_an_unannotated_result_is_json_by_its_own_type() -> None:
    def fn(): ...  # type: ignore[no-untyped-def]

    signature = CallableSignature.of(fn)
    value = {"point": Point(1), "when": date(2026, 1, 2), "odd": "\ud800"}
    dumped = signature.dump_result(value)
    assert dumped == {"point": {"x": 1, "title": "origin"}, "when": "2026-01-02", "odd": "\ud800"}
    assert signature.load_result(dumped) == dumped


@given(any_json)
def test_loaded_values_share_nothing_with_the_journal(value: Any) -> None:
    def fn(): ...  # type: ignore[no-untyped-def]

    signature = CallableSignature.of(fn)
    try:
        dumped = signature.dump_result(value)
    except Unserialisable:
        return
    loaded = signature.load_result(dumped)
    assert loaded == dumped
    assert not isinstance(loaded, (list, dict)) or loaded is not dumped
