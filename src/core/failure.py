"""Errors as data: the part of an exception that a journal keeps, and the way back.

A failure says where the exception came from: the frames of the user's code, with their lines, and the same of
its causes. It never holds a value of a frame, because any of them may be a secret.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Collection, Iterator
from math import isfinite
from typing import Any, Self

from pydantic import SerializerFunctionWrapHandler, model_serializer

from outlast.core import errors
from outlast.core.errors import (
    ActivityError,
    ActivityFailed,
    ConfigurationError,
    DefinitionError,
    ModelError,
    ModelOverloaded,
    OutlastError,
    PayloadTooLarge,
    ToolError,
    ToolServerError,
    Unserialisable,
)
from outlast.core.json import JSON
from outlast.core.values import Value

MESSAGE_CHARACTERS_MAX = 10_000
GROUP_ERRORS_MAX = 10
"""The most errors of an exception group that its message quotes."""
QUOTED_CHARACTERS_MAX = 1_000
"""The most characters that are quoted of each of their messages."""
_CUT = "… (cut)"


class Frame(Value):
    """A place in user code that an exception came through; `text` is the line as it stands in the file."""

    file: str
    line: int
    function: str
    text: str = ""


class Failure(Value):
    """An error that can be journaled: `kind` is the class name; `details` rebuild an error of ours."""

    kind: str
    message: str
    retryable: bool = False
    details: dict[str, JSON] | None = None
    module: str | None = None
    """The module of a class that is not ours, if its failure says where it came from."""
    frames: tuple[Frame, ...] = ()
    """The frames of user code, the innermost last; without user code, the frame that raised."""
    cause: Failure | None = None
    group: tuple[Failure, ...] = ()
    """The first errors of an exception group, at any depth, each with its own frames."""

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kept = {name: value for name, value in dump(self).items() if value not in (None, (), [])}
        # A tuple is not JSON, and the data of an event holds what `JSON` allows.
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}

    @property
    def in_words(self) -> str:
        """The class and the message."""
        return errors.named(self.kind, self.message)

    @classmethod
    def of(cls, error: BaseException, *, retryable: bool | None = None) -> Self:
        """Return the failure for `error`; an error that is not ours counts as retryable.

        Only the class name and the message of a foreign exception are kept: no traceback, no attributes, so
        that no secret of a frame reaches a journal. Characters that a log cannot show are escaped. The
        message of an exception group quotes its errors; a group is retryable if all of them are. A
        `ForeignError` gives the failure that it was made from.
        """
        kind, message = type(error).__name__, message_of(error)
        if isinstance(error, errors.ForeignError):
            message = _cut(errors.loggable(error.message), MESSAGE_CHARACTERS_MAX)
            return cls(kind=error.kind, message=message, retryable=retryable is not False and not error.final)
        if isinstance(error, OutlastError):
            details = _details(error)
            worth = type(error).retryable if retryable is None else retryable
            return cls(kind=kind, message=message, retryable=worth, details=details)
        leaves = list(leaves_of(error))
        worth = all(one.retryable for one in leaves if isinstance(one, OutlastError))
        waits = [one.retry_after_seconds for one in leaves if isinstance(one, ModelOverloaded)]
        asked = max((wait for wait in waits if wait is not None), default=None)
        return cls(
            kind=kind,
            message=_cut(message or kind, MESSAGE_CHARACTERS_MAX),
            retryable=worth if retryable is None else retryable,
            details=None if asked is None else {"retry_after_seconds": _plain(asked)},
        )

    def error(self) -> Exception:
        """Return the original error, with its causes and with the traceback of then as a note.

        An error of ours has its class again. So has any other `Exception` whose class is a builtin, or stands
        in a module that this process has loaded, if it gives the same text again; else it is a
        `ForeignError`. Nothing is imported, and no constructor of a class that is not ours is called.
        """
        error = self._our_error() or self._known_error()
        if error is None:
            error = errors.ForeignError(self.kind, self.message, final=not self.retryable)
        setattr(error, _KEPT, self)
        if self.frames:
            error.add_note(f"It was raised here, by another process or earlier:\n{self.traceback()}")
        if self.cause is not None:
            error.__cause__ = self.cause.error()
        return error

    def _our_error(self) -> OutlastError | None:
        known = getattr(errors, self.kind, None)
        if self.details is not None and isinstance(known, type) and issubclass(known, OutlastError):
            try:
                return known(**self.details)
            except (TypeError, ValueError):
                pass  # Another version of this library wrote it, with other fields; its message is used.
        return None

    def _known_error(self) -> Exception | None:
        if self.module is None:
            return None
        module = builtins if self.module == "builtins" else sys.modules.get(self.module)
        known = getattr(module, self.kind, None)
        if not isinstance(known, type) or not issubclass(known, Exception) or issubclass(known, OutlastError):
            return None
        try:
            error = known.__new__(known)
            error.args = (_Worded(self.message),)
            return error if message_of(error) == self.message else None
        except Exception:  # The class makes its objects or its texts in a way of its own.
            return None

    def traceback(self) -> str:
        """Return the places and the messages in several lines, as Python prints them: causes come first."""
        lines = [f"{self.cause.traceback()}\n\nwhich caused:\n"] if self.cause is not None else []
        for frame in self.frames:
            lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.function}')
            lines += [f"    {frame.text}"] if frame.text else []
        lines.append(self.in_words)
        for number, one in enumerate(self.group, 1):
            lines.append(f"error {number} of the group:")
            lines += [f"  {line}" for line in one.traceback().splitlines()]
        return "\n".join(lines)


_KEPT = "_outlast_failure"
"""The attribute of an exception that a failure was turned into: that failure."""


def failure_behind(error: BaseException) -> Failure | None:
    """Return the failure that `error` was made from, if it came from a journal."""
    failure = getattr(error, _KEPT, None)
    return failure if isinstance(failure, Failure) else None


class _Worded(str):
    """The text of a `KeyError`, which prints the representation of its argument."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def failure_of(error: BaseException, limit_bytes: int, *, final: Collection[str] = ()) -> Failure:
    """Return the failure for `error`, small enough to be part of a record of at most `limit_bytes`.

    A long message is cut, and an error of ours that is too long to be rebuilt is kept by its message alone.
    An error that is among the classes named in `final` is not retryable; see `is_among`.
    """
    failure = Failure.of(error, retryable=False if is_among(error, final) else None)
    if len(failure.message) <= MESSAGE_CHARACTERS_MAX and len(failure.to_json()) <= limit_bytes // 4:
        return failure
    # JSON writes a character as six bytes at most (twelve for the few beyond U+FFFF).
    message = _cut(failure.message, min(MESSAGE_CHARACTERS_MAX, limit_bytes // 64))
    return Failure(kind=failure.kind, message=message, retryable=failure.retryable)


def message_of(error: BaseException) -> str:
    """Return the text of any exception; the text of a group quotes all errors in it, at any depth."""
    try:
        text = errors.loggable(_exit(error) if isinstance(error, SystemExit) else str(error))
    except BaseException as unreadable:  # Its author's code makes the text, and may raise anything.
        return f"its message cannot be shown: {type(unreadable).__name__}"
    if not isinstance(error, BaseExceptionGroup):
        return text
    leaves = list(leaves_of(error))
    quoted = [f"{text}: {_quoted(leaves[0])}", *map(_quoted, leaves[1:GROUP_ERRORS_MAX])]
    more = len(leaves) - GROUP_ERRORS_MAX
    return "; ".join([*quoted, f"and {more} more"] if more > 0 else quoted)


def named_message_of(error: BaseException) -> str:
    """Return the name of an exception's class and, if there is one, its message."""
    message = _cut(message_of(error), MESSAGE_CHARACTERS_MAX)
    if isinstance(error, errors.ForeignError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in an exception group, those of nested groups too; of any other error, itself."""
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(reversed(one.exceptions))
        else:
            yield one


def is_among(error: BaseException, names: Collection[str]) -> bool:
    """Return whether `names` has the class of `error` or a base of it, with its module or without.

    A group is among them if an error in it is, and a `ForeignError` if its cause is.
    """
    if not names:
        return False
    if isinstance(error, errors.ForeignError) and error.__cause__ is not None:
        return is_among(error.__cause__, names)
    kinds = {kind for one in (error, *leaves_of(error)) for kind in type(one).__mro__}
    return any(kind.__name__ in names or class_name(kind) in names for kind in kinds)


def class_name(kind: type[BaseException]) -> str:
    """Return the name that `is_among` takes for exactly this class and its subclasses."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _exit(error: SystemExit) -> str:
    status = "" if error.code is None else repr(error.code)
    return f"the code called sys.exit({status})"


def _quoted(error: BaseException) -> str:
    return _cut(named_message_of(error), QUOTED_CHARACTERS_MAX)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - len(_CUT)] + _CUT


def step_error(failure: Failure, step: str, attempts: int) -> OutlastError:
    """Return the error of a failed step for workflow code: ours unchanged, foreign ones wrapped."""
    error = failure.error()
    if isinstance(error, _AS_THEMSELVES):
        return error
    failed = ActivityFailed(step, attempts, failure.kind, failure.message)
    failed.__cause__ = error
    return failed


_AS_THEMSELVES = (
    ActivityError,
    ConfigurationError,
    DefinitionError,
    ModelError,
    ToolError,
    ToolServerError,
    PayloadTooLarge,
    Unserialisable,
)


def _details(error: OutlastError) -> dict[str, JSON] | None:
    try:
        return {name: _plain(value) for name, value in error.details().items()}
    except Exception:  # The class is derived from ours, but is not ours.
        return None


def _plain(value: Any) -> JSON:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int)) or (isinstance(value, float) and isfinite(value)):
        return value
    return str(value)
