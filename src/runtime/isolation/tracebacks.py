"""Where an exception came from: the frames of user code, which the journal keeps beside its message (D21).

Only file, line, function and the text of the line are kept, and of that text no literal in quotes: a line may
be `LocalSession(api_key="…")`. Values of variables may be secrets. So may be the
texts of exceptions that an adapter of ours has turned into its own error: of the causes of an error of ours,
only those are kept that a journal has held already.
"""

from __future__ import annotations

import asyncio
import linecache
import re
import sys
from collections.abc import Collection
from types import CodeType

from outlast.core.errors import ForeignError, OutlastError
from outlast.core.failure import GROUP_ERRORS_MAX, Failure, Frame, failure_behind, leaves_of
from outlast.core.failure import failure_of as failure_without_traceback
from outlast.runtime.isolation.user_code import is_user_code

FRAMES_MAX = 20
"""The most frames of one exception; the outermost of longer tracebacks are left out."""
CAUSES_MAX = 5
"""The most causes, one behind the other."""
LINE_CHARACTERS_MAX = 200
_QUOTED = re.compile(r"""(["'])(?:.*["']|.*$)""")
_LONG_QUOTES = ('"""', "'''")


def failure_of(
    error: BaseException, limit_bytes: int = sys.maxsize, *, final: Collection[str] = ()
) -> Failure:
    """Return the failure for `error` with its frames and causes, as far as `limit_bytes` allows.

    See `core.failure.failure_of` for the rest.
    """
    failure = failure_without_traceback(error, limit_bytes, final=final)
    complete = _located(error, failure, CAUSES_MAX)
    return complete if len(complete.to_json()) <= limit_bytes // 4 else failure


def line_shown(line: str) -> str:
    """Return a line of code without what is in quotes: all from the first quote to the last one.

    A text of several lines may begin or end in the line; then all from the first quote on is left out.
    """
    line = line.strip()
    if any(quotes in line for quotes in _LONG_QUOTES):
        line = line[: min(line.find(quote) for quote in "\"'" if quote in line)] + '"'
    return _QUOTED.sub(r"\1…\1", line)[:LINE_CHARACTERS_MAX]


def _located(error: BaseException, failure: Failure, causes: int) -> Failure:
    if isinstance(error, ForeignError) and error.__cause__ is not None:
        error = error.__cause__  # The exception that `contained` has replaced.
    kept = failure_behind(error)
    group: tuple[Failure, ...] = ()
    if isinstance(error, BaseExceptionGroup):
        leaves = list(leaves_of(error))[:GROUP_ERRORS_MAX]
        group = tuple(_located(leaf, failure_without_traceback(leaf, sys.maxsize), 0) for leaf in leaves)
    frames = _frames(error)
    if kept is not None and kept.frames:
        # It was raised first where the journal says, and once more in code that got it from the journal.
        frames = (*(frame for frame in frames if is_user_code(frame.file)), *kept.frames)[-FRAMES_MAX:]
    return failure.with_(
        module=None if isinstance(error, OutlastError) else type(error).__module__,
        frames=frames,
        cause=_cause_of(error, causes),
        group=group,
    )


def _cause_of(error: BaseException, causes: int) -> Failure | None:
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    if cause is None or not causes:
        return None
    kept = failure_behind(cause)
    if kept is not None:
        return _with_causes(kept, causes - 1)
    if isinstance(error, OutlastError):
        return None
    if isinstance(cause, asyncio.CancelledError) and not _user_places(cause):
        return None  # A time-out has ended a wait of a library's, of which nobody wants to know.
    return _located(cause, failure_without_traceback(cause, sys.maxsize), causes - 1)


def _with_causes(failure: Failure, causes: int) -> Failure:
    if failure.cause is None:
        return failure
    return failure.with_(cause=_with_causes(failure.cause, causes - 1) if causes else None)


def _places(error: BaseException) -> list[tuple[CodeType, int]]:
    trace, places = error.__traceback__, []
    while trace is not None:
        places.append((trace.tb_frame.f_code, trace.tb_lineno))
        trace = trace.tb_next
    return places


def _user_places(error: BaseException) -> list[tuple[CodeType, int]]:
    return [place for place in _places(error) if is_user_code(place[0].co_filename)]


def _frames(error: BaseException) -> tuple[Frame, ...]:
    """Return the frames of user code; without one, the frame that raised an error that is not ours."""
    shown = _user_places(error)
    if not shown and not isinstance(error, OutlastError):
        shown = _places(error)[-1:]
    return tuple(
        Frame(
            file=code.co_filename,
            line=line,
            function=code.co_qualname,
            text=line_shown(linecache.getline(code.co_filename, line)),
        )
        for code, line in shown[-FRAMES_MAX:]
    )
