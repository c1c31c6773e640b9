"""The tree of errors, and errors as data."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core import errors
from outlast.core.errors import (
    ActivityFailed,
    ActivityTimedOut,
    ExecutionAlreadyExists,
    ForeignError,
    InvalidArguments,
    MaxTurnsExceeded,
    ModelRefused,
    OutlastError,
    PayloadTooLarge,
    ToolFailed,
    check_size,
    loggable,
)
from outlast.core.failure import (
    GROUP_ERRORS_MAX,
    MESSAGE_CHARACTERS_MAX,
    Failure,
    class_name,
    failure_of,
    is_among,
    named_message_of,
    step_error,
)
from outlast.core.json import decode
from tests.core.strategies import any_text, failures, finite


def subclasses(of: type[OutlastError]) -> Iterator[type[OutlastError]]:
    """Yield the class and everything below it, as far as the library itself defines it."""
    yield of
    for kind in of.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from subclasses(kind)


ERRORS = list(subclasses(OutlastError))

_values = {
    "str": any_text,
    "str | None": st.none() | any_text,
    "int": st.integers(),
    "int | None": st.none() | st.integers(),
    "bool": st.booleans(),
    "float": finite,
    "float | Decimal": finite,
    "float | None": st.none() | finite,
    "Sequence[str]": st.lists(any_text, max_size=3),
    "Sequence[int]": st.lists(st.integers(), max_size=30),
}


@st.composite
def any_error(draw: st.DrawFn) -> OutlastError:
    """Errors of every class, with any fields."""
    kind = draw(st.sampled_from(ERRORS))
    return kind(**{field.name: draw(_values[str(field.type)]) for field in fields(kind)})


def same(one: Exception, other: OutlastError) -> bool:
    """Return whether two errors say the same."""
    if not isinstance(one, OutlastError):
        return False
    return (type(one), str(one), one.details()) == (type(other), str(other), other.details())


@given(any_error())
def test_an_error_comes_back_from_a_journal_as_it_was(error: OutlastError) -> None:
    if isinstance(error, ForeignError):  # No journal holds half a character.
        error = ForeignError(error.kind, loggable(error.message), error.final)
    failure = Failure.model_validate(decode(Failure.of(error).to_json()))
    assert failure == Failure.of(error)
    assert same(failure.error(), error)
    assert failure.retryable == (error.retryable and not (isinstance(error, ForeignError) and error.final))
    assert failure.message == (error.message if isinstance(error, ForeignError) else str(error))


@given(any_error())
def test_an_error_can_be_copied(error: OutlastError) -> None:
    error.add_note("a note")
    for copied in (copy.copy(error), copy.deepcopy(error)):
        assert same(copied, error)
        assert copied.__notes__ == ["a note"]


def test_a_copy_keeps_what_a_run_produced() -> None:
    error = MaxTurnsExceeded("front", 3)
    assert (list(error.entries), error.usage) == ([], None)
    error.entries, error.usage = ["entry"], 7
    assert (copy.copy(error).entries, copy.copy(error).usage) == (["entry"], 7)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_keeps_its_fields_and_has_a_message(kind: type[OutlastError]) -> None:
    parameters = list(inspect.signature(kind).parameters)
    assert parameters == [field.name for field in fields(kind)]
    assert isinstance(kind.retryable, bool)
    assert kind.__doc__
    assert set(get_type_hints(kind)) >= set(parameters)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_the_message_of_every_error_has_its_fields(kind: type[OutlastError]) -> None:
    """Only a wait asked for by a server is for the retry policy alone, and a flag chooses the words."""
    samples = {
        "str": "Wörter",
        "str | None": "Wörter",
        "int": 4711,
        "int | None": 4711,
        "float": 47.5,
        "float | Decimal": 47.5,
        "Sequence[str]": ["Wörter"],
        "Sequence[int]": [4712],
    }
    given_fields = {
        field.name: samples[str(field.type)] for field in fields(kind) if str(field.type) in samples
    }
    message = str(kind(**given_fields))
    for name, value in given_fields.items():
        assert str(value if not isinstance(value, list) else value[0]) in message, name


def test_an_interrupted_activity_says_whether_its_attempts_are_used_up() -> None:
    assert str(errors.ActivityInterrupted("pay")).endswith("when its worker went away")
    one, three = str(errors.ActivityInterrupted("pay", 1)), str(errors.ActivityInterrupted("pay", 3))
    assert "the one attempt that its retry policy allows" in one
    assert "the 3 attempts" in three
    assert "`outlast retry`" in one


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    drawn: dict[str, str] = {}
    path = ["OutlastError"]
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"((?:│   |    )*)(?:├── |└── )(\w+)", line):
            depth = len(match[1]) // 4 + 1
            path[depth:] = [match[2]]
            assert match[2] not in drawn
            drawn[match[2]] = path[depth - 1]
    bases = {kind.__name__: base.__name__ for kind in ERRORS[1:] if (base := kind.__base__)}
    assert drawn == bases


def test_no_other_class_in_the_module_is_an_exception_but_the_one_that_code_must_not_catch() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__ == errors.__name__
    }
    assert defined == {*ERRORS, errors.CodeInterrupted}
    assert not issubclass(errors.CodeInterrupted, Exception)
    assert str(errors.CodeInterrupted())


class Rude(Exception):
    """An exception of a user, who keeps secrets in it."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = "hunter2"


class Rash(Exception):
    """An exception of a user, whose text ends the process."""

    def __str__(self) -> str:
        raise SystemExit


class Own(OutlastError):
    """An error that an adapter of somebody else derives from ours."""


def test_an_exception_that_is_not_ours_is_kept_by_name_and_message_only() -> None:
    for error, message in (
        (ValueError("no"), "no"),
        (Rude(), "Rude"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(2), "the code called sys.exit(2)"),
        (SystemExit("no"), "the code called sys.exit('no')"),
        (SystemExit(), "the code called sys.exit()"),
        (Rash(), "its message cannot be shown: SystemExit"),
    ):
        failure = Failure.of(error)
        kept = failure.error()
        assert isinstance(kept, ForeignError)
        assert (kept.kind, kept.message, failure.retryable) == (type(error).__name__, message, True)
        assert b"hunter2" not in failure.to_json()
    assert isinstance(Failure.of(Own()).error(), ForeignError)


def test_a_foreign_error_is_the_failure_that_it_was_made_from() -> None:
    foreign = ForeignError("SystemExit", "the code called sys.exit(2)")
    failure = Failure.of(foreign)
    assert (failure.kind, failure.message, failure.retryable) == ("SystemExit", foreign.message, True)
    assert same(failure.error(), foreign)
    assert named_message_of(foreign) == "SystemExit: the code called sys.exit(2)"
    assert not is_among(foreign, ["SystemExit"])
    foreign.__cause__ = SystemExit(2)
    assert is_among(foreign, ["SystemExit"])


@pytest.mark.parametrize("retryable", [True, False])
def test_a_failure_may_be_made_retryable_or_not(retryable: bool) -> None:
    for error in (ValueError("no"), ToolFailed("send", "ValueError", "no"), errors.ModelUnreachable("gone")):
        assert Failure.of(error, retryable=retryable).retryable is retryable


@given(failures, st.dictionaries(st.sampled_from(["tool", "kind", "message", "x"]), st.none() | any_text))
def test_a_failure_of_another_version_is_an_error_with_its_message(
    failure: Failure, details: dict[str, Any]
) -> None:
    for kind in ("ToolFailed", "ActivityTimedOut", "Sequence", "fields", failure.kind):
        error = failure.with_(kind=kind, details=details).error()
        assert isinstance(error, KeyError if kind == "KeyError" else OutlastError)
        assert isinstance(error, ForeignError) <= (errors.loggable(failure.message) in str(error))


def test_fields_that_are_not_json_are_kept_as_text() -> None:
    class Strange(OutlastError):
        def details(self) -> dict[str, Any]:
            return {"inf": float("inf"), "tuple": (1, (b"x",)), "none": None}

    class Stranger(OutlastError):
        def details(self) -> dict[str, Any]:
            raise LookupError

    assert Failure.of(Stranger()).details is None
    assert Failure.of(Strange()).details == {"inf": "inf", "tuple": [1, ["b'x'"]], "none": None}


class Mute(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@given(message=st.text(max_size=500), limit=st.integers(min_value=2_000, max_value=20_000))
def test_any_exception_becomes_a_failure_that_fits_into_a_record(message: str, limit: int) -> None:
    for error in (ValueError(message * 200), InvalidArguments("tool", [message * 200]), Mute()):
        failure = failure_of(error, limit)
        assert failure.kind == type(error).__name__
        assert len(failure.to_json()) <= limit // 2


@given(message=st.text(max_size=50))
def test_a_failure_that_fits_is_kept_whole(message: str) -> None:
    assert failure_of(ValueError(message), 10_000) == Failure.of(ValueError(message))


@given(quoted=any_text)
def test_every_failure_can_be_written_to_a_log(quoted: str) -> None:
    for error in (
        ValueError(quoted),
        ToolFailed(quoted, "ValueError", quoted),
        InvalidArguments("t", [quoted]),
    ):
        failure = Failure.of(error)
        for text in (failure.message, str(failure.error())):
            text.encode()


def nested(depth: int, inner: Exception) -> Exception:
    for _ in range(depth):
        inner = ExceptionGroup("deep", [inner])
    return inner


def test_an_exception_group_quotes_what_is_in_it() -> None:
    group = ExceptionGroup("unhandled", [ValueError("city Atlantis"), nested(3, KeyError("x")), Rude()])
    failure = Failure.of(group)
    assert failure.kind == "ExceptionGroup"
    assert failure.message == "unhandled (3 sub-exceptions): ValueError: city Atlantis; KeyError: 'x'; Rude"
    assert isinstance(failure.error(), ForeignError)
    assert Failure.of(BaseExceptionGroup("", [KeyboardInterrupt()])).message.endswith(": KeyboardInterrupt")


@given(depth=st.integers(1, 50), width=st.integers(1, 40), message=st.text(max_size=3000))
def test_the_message_of_any_exception_group_is_bounded(depth: int, width: int, message: str) -> None:
    errors = [nested(depth, ValueError(f"{number} {message}")) for number in range(width)]
    failure = failure_of(nested(depth, ExceptionGroup("", errors)), 1_000_000)
    assert len(failure.message) <= MESSAGE_CHARACTERS_MAX
    assert failure.message.count("ValueError: ") >= min(width, 8)
    if width > GROUP_ERRORS_MAX and len(message) < 900:
        assert failure.message.endswith(f"; and {width - GROUP_ERRORS_MAX} more")


def test_a_very_deep_exception_group_becomes_a_failure() -> None:
    assert "ValueError: at the bottom" in Failure.of(nested(20_000, ValueError("at the bottom"))).message


def test_an_exception_group_is_tried_again_if_all_that_is_in_it_is() -> None:
    may, must_not = errors.ModelUnreachable("gone"), ModelRefused(404, "no")
    for inside, worth in (
        ([ValueError()], True),
        ([ValueError(), may], True),
        ([ValueError(), must_not], False),
        ([nested(3, must_not), may], False),
    ):
        assert Failure.of(ExceptionGroup("", inside)).retryable is worth


class Hopeless(Exception):
    """An error that a user declares not worth another attempt."""


class MoreHopeless(Hopeless):
    """One of its kind."""


@pytest.mark.parametrize("name", ["Hopeless", class_name(Hopeless), "Exception", "builtins.BaseException"])
def test_an_error_is_final_if_its_class_or_a_base_of_it_is(name: str) -> None:
    for error in (Hopeless(), MoreHopeless(), ExceptionGroup("", [ValueError(), nested(2, MoreHopeless())])):
        assert not failure_of(error, 10_000, final=("KeyError", name)).retryable
        assert failure_of(error, 10_000, final=("KeyError",)).retryable
    assert failure_of(ValueError(), 10_000, final=("Hopeless",)).retryable
    assert failure_of(Hopeless(), 10_000, final=("elsewhere.Hopeless",)).retryable


def test_an_error_without_a_message_is_named_by_its_class_alone() -> None:
    assert named_message_of(ValueError("no")) == "ValueError: no"
    assert named_message_of(Rude()) == "Rude"
    assert len(named_message_of(ValueError("x" * 20_000))) == MESSAGE_CHARACTERS_MAX + len("ValueError: ")


def test_half_a_character_is_shown_as_its_escape() -> None:
    assert Failure.of(ValueError("a\ud800é")).message == "a\\ud800é"


def test_workflow_code_sees_a_failed_step_as_ours_or_as_the_activity_that_failed() -> None:
    timed_out = ActivityTimedOut("a", "heartbeat_timeout", 3.0)
    assert isinstance(step_error(Failure.of(timed_out), "a", 2), ActivityTimedOut)
    assert isinstance(step_error(Failure.of(ModelRefused(404, "no")), "a", 2), ModelRefused)
    wrapped = step_error(Failure.of(KeyError("x")), "a", 2)
    assert isinstance(wrapped, ActivityFailed)
    assert (wrapped.activity, wrapped.attempts, wrapped.kind) == ("a", 2, "KeyError")


def test_an_id_in_use_is_no_reason_to_start_the_same_again_for_a_fork_or_an_import() -> None:
    assert str(ExecutionAlreadyExists("e-1", "journal")) == "the id 'e-1' is in use; choose another id"
    assert "start it with the same workflow and input" in str(ExecutionAlreadyExists("e-1", "input"))


@given(st.integers(0, 100), st.integers(0, 100))
def test_only_what_is_over_a_limit_is_too_large(size: int, limit: int) -> None:
    if size <= limit:
        check_size("a letter", size, limit)
        return
    with pytest.raises(PayloadTooLarge, match="a letter") as refused:
        check_size("a letter", size, limit)
    assert (refused.value.size_bytes, refused.value.limit_bytes) == (size, limit)
