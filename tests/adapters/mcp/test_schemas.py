"""Schemas of strangers: what is refused, and that no check of a value takes long."""

from __future__ import annotations

import gc
import time
import timeit
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.sdk.schema_checks import Checker, problem_of_schema
from outlast.runtime.attempts.shared_resources import SharedResources
from tests.adapters.mcp.calling import OBJECT, raw

Schema = dict[str, Any]

EVIL = "(a+)+$"
LONG = "a" * 60 + "!"
HELD_SECONDS_MAX = 0.5
"""A check takes some 30 ms of the processor, and here perhaps ten times that."""


def multiplying(keyword: str, levels: int, end: Schema) -> Schema:
    """Return a schema whose references, written out, would have 2 to the power of `levels` ends."""

    def twice(n: int) -> Schema:
        inner = [{"$ref": f"#/$defs/a{n - 1}"}] * 2
        return {keyword: dict(zip("lr", inner, strict=True)) if keyword == "properties" else inner}

    steps = {f"a{n}": twice(n) for n in range(1, levels + 1)}
    return {**OBJECT, "properties": {"x": {"$ref": f"#/$defs/a{levels}"}}, "$defs": {"a0": end, **steps}}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf", "prefixItems", "properties"])
def test_references_that_multiply_are_refused(keyword: str) -> None:
    assert problem_of_schema(multiplying(keyword, 10, {"type": "string"})) is None
    problem = problem_of_schema(multiplying(keyword, 40, {"type": "string"}))
    assert problem is not None
    assert "references that multiply" in problem


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"anyOf": [{"$ref": "#"}]}]},
        {"properties": {"a": {"$ref": "#/properties/a"}}},
        {"properties": {"a": {"not": {"$ref": "#/properties/a"}}}},
        {"properties": {"a": {"if": {"$ref": "#/%24defs/b"}}}, "$defs": {"b": {"$ref": "#/properties/a"}}},
        {"properties": {"a~/b": {"allOf": [{"$ref": "#/properties/a~0~1b/allOf/0"}]}}},
        {"dependentSchemas": {"a": {"$ref": "#"}}},
    ],
)
def test_references_back_to_themselves_are_refused(schema: Schema) -> None:
    assert problem_of_schema({**OBJECT, **schema}) == "the references in its schema lead back to themselves"


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#"}, "b": {"items": {"$ref": "#"}}}},
        {"properties": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}},
        {"properties": {"a": {"$ref": "https://example.org/schema.json"}}},
        {"properties": {"a": {"$ref": "#anchor"}, "b": {"$ref": "#/nowhere/0"}}},
        {"properties": {"$ref": {"type": "string"}, "allOf": {"$ref": "#/properties/$ref"}}},
        {"properties": {"a": {"const": {"$ref": "#"}, "default": {"$ref": "#"}}}},
        {"properties": {"a": {"pattern": "[", "format": "regex"}}},
        {"properties": {"a": {"pattern": "(?i)" + "[\\u0000-\\U0010ffff]" * 1000}}},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        {"$schema": "https://example.org/unheard-of"},
    ],
)
def test_a_schema_that_only_looks_dangerous_is_accepted(schema: Schema) -> None:
    assert problem_of_schema({**OBJECT, **schema}) is None
    assert Checker({**OBJECT, **schema}).faults_of({"c": 1}) == []


def test_a_long_chain_of_references_is_an_answer_too() -> None:
    chain = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(2000)}
    problem = problem_of_schema({**OBJECT, "$ref": "#/$defs/a0", "$defs": chain})
    assert problem == "the references in its schema lead too deep"


def held(check: Checker, value: Any) -> float:
    """Return the CPU time of a check, at best: without what other tests have left to collect."""
    gc.disable()
    try:
        return min(timeit.repeat(lambda: check.faults_of(value), timer=time.thread_time, number=1, repeat=3))
    finally:
        gc.enable()


@given(
    keyword=st.sampled_from(["allOf", "anyOf", "oneOf"]),
    end=st.sampled_from(
        [
            {"type": "string"},
            {"enum": [[n] * 9 for n in range(400)]},
            {"required": ["a"] * 500},
            {"minItems": 9},
        ]
    ),
    value=st.sampled_from([1, "abc", "y" * 900_000, [1] * 4000, [[1] * 9] * 400, {"a": [{}] * 900}]),
)
def test_no_check_takes_long(keyword: str, end: Schema, value: Any) -> None:
    assert held(Checker(multiplying(keyword, 14, end)), {"x": value}) < HELD_SECONDS_MAX


SLOW: Mapping[str, tuple[Schema, Any]] = {
    "pattern": ({"pattern": EVIL}, LONG),
    "property names": ({"propertyNames": {"pattern": EVIL}}, {LONG: 1}),
    "patternProperties": ({"patternProperties": {EVIL: True}, "additionalProperties": False}, {LONG: 1}),
    "unevaluatedProperties": ({"patternProperties": {EVIL: True}, "unevaluatedProperties": False}, {LONG: 1}),
    "version": ({"$schema": "http://json-schema.org/draft-07/schema#", "pattern": EVIL}, LONG),
    "old version": ({"$schema": "http://json-schema.org/draft-03/schema#", "pattern": EVIL}, LONG),
    "data": ({"$ref": "#/$defs/data/default"}, LONG),
    "unique": ({"uniqueItems": True}, [{"a": n} for n in range(2000)]),
    "equal": (
        {"enum": [[{"a": n} for n in range(500)] for _ in range(8)]},
        [{"a": n} for n in range(499)] + [1],
    ),
}
DATA = {"data": {"default": {"pattern": EVIL}}}


@pytest.mark.parametrize("kind", sorted(SLOW))
@pytest.mark.parametrize(
    "version", [None, "https://json-schema.org/draft/2020-12/schema", "draft-07", "draft-04"]
)
def test_what_could_take_for_ever_is_left_to_the_server(kind: str, version: str | None) -> None:
    part, value = SLOW[kind]
    schema: Schema = {"properties": {"x": part, "again": {"$ref": "#"}}, "$defs": DATA}
    if version is not None:
        schema["$schema"] = version if "://" in version else f"http://json-schema.org/{version}/schema#"
    check = Checker(schema)
    assert held(check, {"x": value, "again": {"x": value}}) < HELD_SECONDS_MAX


plain = st.recursive(
    st.sampled_from(
        [{}, {"type": "string"}, {"type": ["integer", "null"]}, {"enum": [1, "a"]}, {"minimum": 2}]
    ),
    lambda inner: st.one_of(
        st.builds(lambda one: {"items": one}, inner),
        st.builds(
            lambda one, name: {"properties": {"a": one}, "required": name},
            inner,
            st.sampled_from([["a"], []]),
        ),
        st.builds(
            lambda key, some: {key: some},
            st.sampled_from(["anyOf", "oneOf", "allOf"]),
            st.lists(inner, min_size=1),
        ),
        st.builds(lambda one: {"additionalProperties": one}, inner | st.just(False)),
    ),
    max_leaves=6,
)
values = st.recursive(
    st.sampled_from([None, 1, 3, "a", True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(schema=plain, value=values)
def test_what_is_checked_is_checked_as_the_standard_says(schema: Schema, value: Any) -> None:
    assert problem_of_schema(schema) is None
    assert bool(Checker(schema).faults_of(value)) is not Draft202012Validator(schema).is_valid(value)


def test_a_value_that_is_too_large_to_check_counts_as_fitting() -> None:
    check = Checker({**OBJECT, "properties": {"x": {"type": "string"}}})
    assert check.faults_of({"x": [1] * 100})
    assert not check.faults_of({"x": [1] * limits.CHECKED_VALUES_MAX})


@pytest.mark.server
async def test_a_result_is_not_checked_with_the_regular_expressions_of_its_server(
    resources: SharedResources,
) -> None:
    evil: Schema = {**OBJECT, "properties": {"x": {"pattern": EVIL}}, "patternProperties": {EVIL: True}}
    server = raw(
        {"content": [], "structuredContent": {"x": LONG, LONG: 1}},
        {"name": "look", "inputSchema": evil, "outputSchema": evil},
    )
    output = await server.call("t_look", {"x": LONG, LONG: 1}, resources)
    assert output.structured == {"x": LONG, LONG: 1}
