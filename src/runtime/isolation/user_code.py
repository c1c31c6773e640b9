"""Distinguishing user code from libraries, and naming the place where it stands.

User code is every file outside the standard library, site-packages and this package. The workflows that this
package ships for tests count too, and so does code that is typed at a prompt or generated. An application
that is installed in site-packages is added by `add_user_code`.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

_LIBRARIES = tuple(
    os.path.join(directory, "")
    for directory in (
        os.path.dirname(os.__file__),
        *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")),
    )
)
_OWN = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "")
_OWN_WORKFLOWS = os.path.join(_OWN, "testing", "")
_added: list[str] = []


def is_user_code(file: str) -> bool:
    """Return whether code of that file name is user code."""
    if file.startswith("<"):
        return not file.startswith("<frozen ")  # a notebook, a prompt, generated code
    if file.startswith((_OWN_WORKFLOWS, *_added)):
        return True
    return not file.startswith((_OWN, *_LIBRARIES)) and f"{os.sep}dist-packages{os.sep}" not in file


def add_user_code(files: Iterable[str]) -> bool:
    """Declare files, and folders (which end with a separator), user code; return whether any is new."""
    new = [file for file in files if not is_user_code(file)]
    _added.extend(new)
    return bool(new)


def place_of(frame: FrameType | None) -> str:
    """Return the place of the user code that led to `frame`; without user code, the place of `frame`."""
    if frame is None:
        return "an unknown place"
    return _innermost([(one.f_code, one.f_lineno) for one in _callers(frame)])


def place_in(suspended: Any) -> str:
    """Return the place where a coroutine or asynchronous generator waits: its innermost user frame."""
    frames = [(frame.f_code, frame.f_lineno) for frame in _awaited(suspended)]
    return _innermost(frames[::-1]) if frames else "an unknown place"


def _callers(frame: FrameType) -> Iterator[FrameType]:
    one: FrameType | None = frame
    while one is not None:
        yield one
        one = one.f_back


def _awaited(suspended: Any) -> Iterator[FrameType]:
    while suspended is not None:
        for prefix, awaited in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
            frame = getattr(suspended, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                suspended = getattr(suspended, awaited)
                break
        else:
            return


def _innermost(frames: list[tuple[CodeType, int]]) -> str:
    """Describe the first frame of user code in `frames`, which begin with the innermost."""
    code, line = next((one for one in frames if is_user_code(one[0].co_filename)), frames[0])
    return f"{code.co_filename}:{line}, in {code.co_qualname}"
