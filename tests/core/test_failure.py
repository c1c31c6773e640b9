"""Failures: where an error came from, in a journal and back."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.errors import ActivityFailed, ConfigurationError, ForeignError, MissingCredentials
from outlast.core.failure import Failure, Frame, failure_behind, step_error
from outlast.core.json import decode
from tests.core.strategies import any_text, failures

FRAME = Frame(file="shop.py", line=3, function="price", text="return prices[item]")
BUILTIN_ERRORS = [
    kind
    for kind in vars(builtins).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == "builtins"
]


@given(failure=failures)
def test_a_failure_survives_its_journal(failure: Failure) -> None:
    assert Failure.model_validate(decode(failure.to_json())) == failure


def test_nothing_is_written_of_what_a_failure_does_not_have() -> None:
    assert Failure(kind="E", message="no").model_dump() == {"kind": "E", "message": "no", "retryable": False}


@given(kind=st.sampled_from(BUILTIN_ERRORS), message=any_text)
def test_a_builtin_error_keeps_its_text_and_its_class_if_it_can(kind: type[Exception], message: str) -> None:
    failure = Failure(kind=kind.__name__, message=message, module="builtins")
    error = failure.error()
    assert failure_behind(error) == failure
    if isinstance(error, ForeignError):
        assert (error.kind, error.message) == (kind.__name__, message)
    else:
        assert type(error) is getattr(builtins, kind.__name__)
        assert str(error).encode("utf-8", "backslashreplace") == message.encode("utf-8", "backslashreplace")


@pytest.mark.parametrize("kind", [KeyError, ValueError, OSError, ZeroDivisionError, LookupError, Exception])
def test_common_errors_keep_their_class(kind: type[Exception]) -> None:
    before = kind("tea")
    error = Failure(kind=kind.__name__, message=str(before), module="builtins").error()
    assert type(error) is kind
    assert str(error) == str(before)


def test_an_error_is_found_only_in_a_module_that_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unpriced(Exception):
        def __init__(self) -> None:
            raise AssertionError("no constructor of a user's class is called")

    class Awkward(Exception):
        def __new__(cls) -> Awkward:
            raise TypeError("make it in another way")

    class Wordless(Exception):
        def __str__(self) -> str:
            return "the same for all"

    shop = ModuleType("shop")
    vars(shop).update(Unpriced=Unpriced, Awkward=Awkward, Wordless=Wordless, price=3, Exit=SystemExit)
    vars(shop).update(Ours=ConfigurationError)

    def kind_of(name: str, module: str = "shop") -> type[Exception]:
        return type(Failure(kind=name, message="no price", module=module).error())

    assert kind_of("Unpriced") is ForeignError
    monkeypatch.setitem(sys.modules, "shop", shop)
    assert kind_of("Unpriced") is Unpriced
    for name in ("Awkward", "Wordless", "price", "Exit", "Ours", "Missing"):
        assert kind_of(name) is ForeignError
    assert kind_of("Unpriced", "antigravity") is ForeignError
    assert "antigravity" not in sys.modules


def test_the_traceback_reads_as_pythons_does() -> None:
    cause = Failure(kind="OSError", message="no disk", frames=(Frame(file="disk.py", line=1, function="f"),))
    one = Failure(kind="E", message="one", frames=(FRAME,))
    failure = Failure(
        kind="Group", message="two", frames=(FRAME,), cause=cause, group=(one, Failure(kind="F", message=""))
    )
    expected = """\
  File "disk.py", line 1, in f
OSError: no disk

which caused:

  File "shop.py", line 3, in price
    return prices[item]
Group: two
error 1 of the group:
    File "shop.py", line 3, in price
      return prices[item]
  E: one
error 2 of the group:
  F"""
    assert failure.traceback() == expected
    error = failure.error()
    assert expected in error.__notes__[0]
    assert isinstance(error.__cause__, ForeignError)
    assert not hasattr(Failure(kind="F", message="").error(), "__notes__")


def test_an_error_without_a_text_is_named_once() -> None:
    assert Failure.of(TimeoutError()).in_words == "TimeoutError"
    assert Failure(kind="TimeoutError", message="").in_words == "TimeoutError"
    assert Failure.of(TimeoutError("too late")).in_words == "TimeoutError: too late"
    assert str(ActivityFailed("mail", 1, "TimeoutError", "TimeoutError")).endswith("with TimeoutError")


def test_a_failed_step_has_the_error_of_its_attempt_as_the_cause() -> None:
    failed = step_error(Failure(kind="KeyError", message="'tea'", module="builtins"), "price", 2)
    assert isinstance(failed, ActivityFailed)
    assert type(failed.__cause__) is KeyError
    missing = Failure.of(MissingCredentials("set a key"))
    assert type(step_error(missing, "call_model", 1)) is MissingCredentials


def test_only_an_error_from_a_journal_has_a_failure_behind_it() -> None:
    assert failure_behind(ValueError("no")) is None
