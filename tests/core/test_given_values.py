"""Values that users give are refused where they are given, with what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from outlast.core.errors import DefinitionError
from outlast.core.given_values import check_duration, check_list, check_number, check_text


@pytest.mark.parametrize(
    ("check", "fitting", "wrong", "advice"),
    [
        (check_number, [1, 7], [0, -1, 1.5, "3", True, None], "use a whole number, 1 or more"),
        (partial(check_number, least=0), [0], [-1], "use a whole number, 0 or more"),
        (check_text, ["a"], ["", " ", 5, None, b"a"], "use a text, not an empty one"),
        (partial(check_text, may_be_empty=True), ["a", ""], [5], "use a text"),
        (check_duration, [timedelta(0), timedelta(days=1)], [5, 0.1, None], "timedelta(seconds=30)"),
        (check_list, [[], (), {1}], [5, "abc", b"abc", {}, iter([])], "write [...]"),
    ],
)
def test_a_value_fits_or_the_error_says_what_to_write(
    check: Callable[[str, Any], None], fitting: list[Any], wrong: list[Any], advice: str
) -> None:
    for value in fitting:
        check("it", value)
    for value in wrong:
        with pytest.raises(DefinitionError) as raised:
            check("it", value)
        assert str(raised.value).startswith("it ")
        assert advice in str(raised.value)
