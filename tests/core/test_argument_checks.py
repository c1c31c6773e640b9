"""The checks of the types of arguments: what they let pass, and what they say of the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from outlast.core.argument_checks import (
    check_list,
    check_mapping,
    check_text,
    check_timedelta,
    check_whole_number,
)
from outlast.core.errors import ConfigurationError, DefinitionError


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: check_timedelta("wait", 2.5), "wait is 2.5; give a timedelta: timedelta(seconds=2.5)"),
        (lambda: check_timedelta("wait", "1 h"), "wait is '1 h'; give a timedelta: timedelta(seconds=30)"),
        (lambda: check_whole_number("n", "3", 1), "n is '3'; use a whole number, 1 or more"),
        (lambda: check_whole_number("n", 0, 1), "n is 0; use a whole number, 1 or more"),
        (lambda: check_whole_number("n", True, 1), "n is True; use a whole number, 1 or more"),
        (lambda: check_mapping("m", [], "{...}"), "m must be a dict, not list: write {...}"),
        (lambda: check_list("tools", "pay"), "tools must be a list, not 'pay': write [...]"),
        (lambda: check_list("tools", {}), "tools must be a list, not dict: write [...]"),
        (lambda: check_list("tools", 3), "tools must be a list, not int: write [...]"),
        (lambda: check_text("name", 3), "name must be text, not int"),
        (lambda: check_text("name", " ", may_be_empty=False), "name is ' '; use a text that is not empty"),
    ],
)
def test_a_wrong_type_is_refused_in_words(check: Callable[[], None], said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        check()
    assert str(refused.value) == said


def test_the_caller_says_whose_mistake_it_is() -> None:
    given: Any = 3
    with pytest.raises(ConfigurationError):
        check_text("name", given, ConfigurationError)


def test_right_types_pass() -> None:
    check_timedelta("wait", timedelta(0))
    check_whole_number("n", 1, 1)
    check_mapping("m", {}, "{...}")
    check_list("tools", ())
    check_text("name", "")
