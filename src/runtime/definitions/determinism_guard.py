"""The determinism guard: calls that workflow code may not make are refused before a replay can differ.

`with workflow_code():` stands around all that runs workflow code, in the thread that runs it. Meanwhile, in
that thread only:

- sockets, threads, subprocesses and `time.sleep` are refused everywhere below workflow code. Python reports
  them to audit hooks; one is installed, once, when the guard is first used.
- clocks and randomness are refused to *callers that are user code*: logging, asyncio and installed libraries
  read clocks with good reason. Python does not report these calls to audit hooks. On Python 3.12 and later
  `sys.monitoring` reports each call site in user code until it has called something harmless, so that the
  cost vanishes; debuggers and coverage use numbers of their own there. On Python 3.11 only a profile function
  sees these calls. It also sees threads and `time.sleep`, which 3.11 does not report to audit hooks. (Python
  3.12 does not report `time.sleep` either; there it is refused to user code.) The profile function costs
  about half a microsecond for each call and each return in the block. So there is a switch, and this package
  removes the function while only its own code runs (`own_code`). The function does not replace another
  profiler of the thread. Python removes it when it raises: if workflow code catches the error, the function
  sees no further calls until the block is entered again.

Calls in the course of logging (handlers send, and read clocks) and of an import are allowed. The file of code
decides whether it is user code (`isolation.user_code`); `watch` adds an application that is installed.

The guard finds honest mistakes early. It is not a sandbox: it misses a clock that is only called from C
(`map(time.time, …)`), or by a call site that was harmless at first. Then the comparison with the journal
finds the mistake.
"""

import _thread
import asyncio
import atexit
import datetime
import logging
import os
import random
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType
from typing import Any

from outlast.core.errors import DeterminismError
from outlast.runtime.isolation.user_code import add_user_code, is_user_code

logger = logging.getLogger("outlast.runtime")

_Refusal = tuple[str] | tuple[str, str]
"""The arguments of the `DeterminismError`."""


def workflow_code(*, profile: bool = True) -> "_WorkflowCode":
    """Return a context in which this thread runs workflow code; it may be entered again inside itself.

    A refused call raises `DeterminismError`, which says what to use instead. `profile=False` saves the cost
    of refusing clocks, randomness, threads and `time.sleep` on Python 3.11; later versions always refuse
    them.
    """
    _install()
    return _PROFILED if profile and sys.version_info < (3, 12) else _PLAIN


def watch(module_name: str) -> None:
    """Treat an imported module's top-level package as user code, even if it is in site-packages.

    No part of this package becomes user code, because it reads clocks with good reason. A module that is not
    in `sys.modules` does not become user code either.
    """
    package = module_name.partition(".")[0]
    if package == __name__.partition(".")[0]:
        return
    module = sys.modules.get(package)
    directories = [os.path.join(directory, "") for directory in getattr(module, "__path__", ())]
    files = directories or [file for file in (getattr(module, "__file__", None),) if file is not None]
    if add_user_code(files) and sys.version_info >= (3, 12):
        sys.monitoring.restart_events()


class _GuardedThread(threading.local):
    """The state of this thread: its number of guards, of profiled guards, and the frame of the outermost."""

    depth = 0
    profiled = 0
    entered_by: FrameType | None = None


_here = _GuardedThread()


class _WorkflowCode:
    __slots__ = ()

    def __enter__(self) -> None:
        if not _here.depth:
            _here.entered_by = sys._getframe(1)
        _here.depth += 1

    def __exit__(self, *_failure: object) -> None:
        _here.depth -= 1
        if not _here.depth:
            _here.entered_by = None


_profile_lock = threading.RLock()


def _set_profile(function: Callable[[FrameType, str, Any], object] | None) -> None:
    """Set this thread's profile function, one thread at a time.

    Python reports this to audit hooks, which lets other threads run, and 3.11 refuses to set two at once.
    """
    with _profile_lock:
        sys.setprofile(function)


class _ProfiledWorkflowCode(_WorkflowCode):
    __slots__ = ()

    def __enter__(self) -> None:
        super().__enter__()
        _here.profiled += 1
        if sys.getprofile() is None:
            _set_profile(_on_profile)

    def __exit__(self, *_failure: object) -> None:
        _here.profiled -= 1
        if not _here.profiled and sys.getprofile() is _on_profile:
            _set_profile(None)
        super().__exit__()


class _OwnCode:
    """Takes the profile function away for a while, if it is set."""

    __slots__ = ("_was_set",)

    def __enter__(self) -> None:
        self._was_set = sys.getprofile() is _on_profile
        if self._was_set:
            _set_profile(None)

    def __exit__(self, *_failure: object) -> None:
        if self._was_set:
            _set_profile(_on_profile)


def own_code() -> AbstractContextManager[None]:
    """Return a context in which this package calls no code of a user, and awaits nothing.

    So the guard has no calls of user code to watch for, and on Python 3.11 watching costs more than most of
    the work inside. Calls that the audit hook refuses are refused nevertheless.
    """
    return _OwnCode() if sys.version_info < (3, 12) else _NOTHING


class _UserCode:
    """Sets the profile function again, inside of own code."""

    __slots__ = ("_was_set",)

    def __enter__(self) -> None:
        self._was_set = sys.getprofile() is not None or not _here.profiled
        if not self._was_set:
            _set_profile(_on_profile)

    def __exit__(self, *_failure: object) -> None:
        if not self._was_set:
            _set_profile(None)


def user_code() -> AbstractContextManager[None]:
    """Return a context in which code of a user is called, inside of `own_code` or of a task of its own."""
    return _UserCode() if sys.version_info < (3, 12) else _NOTHING


def mark_own_code(task: asyncio.Task[Any]) -> None:
    """Let the workflow's loop run a task as own code: it calls code of a user only within `user_code`.

    A task of another loop stays as it is.
    """
    if hasattr(task, "is_own_code"):
        task.is_own_code = True


_NOTHING = nullcontext()
_PLAIN = _WorkflowCode()
_PROFILED = _ProfiledWorkflowCode()


# Refused anywhere below workflow code

_EVENTS: dict[str, _Refusal] = {
    "time.sleep": ("time.sleep()", "await asyncio.sleep(), which is durable here"),
    "_thread.start_new_thread": (
        "starting a thread",
        "do it in an activity, or start a task: asyncio.create_task()",
    ),
    "os.fork": ("os.fork()",),
    "os.forkpty": ("os.forkpty()",),
    "os.exec": ("replacing the process (os.exec*)",),
    "os.posix_spawn": ("a subprocess (os.posix_spawn())",),
    "os.spawn": ("a subprocess (os.spawn*)",),
    "os.startfile": ("os.startfile()",),
    "os.system": ("a subprocess (os.system())",),
    "pty.spawn": ("a subprocess (pty.spawn())",),
    "subprocess.Popen": ("a subprocess",),
    "socket.__new__": ("a socket",),
    **{
        f"socket.{call}": (f"the network (socket.{call}())",)
        for call in (
            *("bind", "connect", "getaddrinfo", "gethostbyaddr", "gethostbyname", "getnameinfo"),
            *("sendmsg", "sendto"),
        )
    },
}
_EVENTS["_thread.start_joinable_thread"] = _EVENTS["_thread.start_new_thread"]


def _on_audit(
    event: str,
    _arguments: tuple[Any, ...],
    refused: dict[str, _Refusal] = _EVENTS,
    here: _GuardedThread = _here,
) -> None:
    # These are parameters because the ending interpreter empties this module but still reports events.
    if event in refused and here.depth and not _is_excused(sys._getframe(1)):
        raise DeterminismError(*refused[event])


def _is_excused(frame: FrameType | None) -> bool:
    """Return whether a call, somewhere between `frame` and the guard, is part of logging or of an import."""
    while frame is not None and frame is not _here.entered_by:
        module = frame.f_globals.get("__name__")
        if module == "logging" or (isinstance(module, str) and module.startswith("logging.")):
            return True
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


# Refused to user code

_NOW = "use workflow.now(), or do it in an activity"
_RANDOM = "use workflow.random(), or do it in an activity"
_GENERATOR = random.random.__self__  # type: ignore[attr-defined]  # the functions of `random` are its methods


def _clocks() -> dict[Callable[..., Any], _Refusal]:
    names = ["time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime"]
    names += [f"{name}_ns" for name in names]
    return {getattr(time, name): (f"time.{name}()", _NOW) for name in names if hasattr(time, name)}


def _randomness() -> dict[Callable[..., Any], _Refusal]:
    found: dict[Callable[..., Any], _Refusal] = {
        function: (f"random.{name}()", _RANDOM)
        for name, function in vars(random).items()
        if getattr(function, "__self__", None) is _GENERATOR
    }
    for name in ("token_bytes", "token_hex", "token_urlsafe", "randbelow", "randbits", "choice"):
        found[getattr(secrets, name)] = (f"secrets.{name}()", _RANDOM)
    for name in ("uuid1", "uuid4", "uuid6", "uuid7"):
        if hasattr(uuid, name):
            found[getattr(uuid, name)] = (f"uuid.{name}()", "use workflow.uuid4(), or do it in an activity")
    for name in ("urandom", "getrandom"):
        if hasattr(os, name):
            found[getattr(os, name)] = (
                f"os.{name}()",
                "use workflow.random().randbytes(), or do it in an activity",
            )
    return found


# Not every version reports these to audit hooks; a library's call of them is refused nevertheless.
_CALLS_ANYWHERE: dict[Callable[..., Any], _Refusal] = {
    time.sleep: _EVENTS["time.sleep"],
    _thread.start_new_thread: _EVENTS["_thread.start_new_thread"],
}
_CALLS = _clocks() | _randomness() | _CALLS_ANYWHERE
_UNSEEDED: _Refusal = ("random.Random() without a seed", _RANDOM)
_SYSTEM_RANDOM: _Refusal = ("random.SystemRandom()", _RANDOM)
_DATE_CLOCKS = frozenset({"now", "utcnow", "today"})


def _refusal_of_builtin(called: BuiltinFunctionType) -> _Refusal | None:
    if (refusal := _CALLS.get(called)) is not None:
        return refusal
    owner = called.__self__
    if called.__name__ in _DATE_CLOCKS and isinstance(owner, type) and issubclass(owner, datetime.date):
        return (f"{owner.__name__}.{called.__name__}()", _NOW)
    return None


if sys.version_info >= (3, 12):
    _CALL = sys.monitoring.events.CALL
    _PY_START = sys.monitoring.events.PY_START
    _DISABLE = sys.monitoring.DISABLE
    _MISSING = sys.monitoring.MISSING
    _TOOLS = (4, 3)  # the two numbers that Python assigns to no kind of tool

    def _install_call_watch() -> None:
        tool = next((number for number in _TOOLS if sys.monitoring.get_tool(number) is None), None)
        if tool is None:
            logger.warning(
                "clocks and randomness in workflow code go unnoticed: sys.monitoring has no tool id left"
            )
            return

        def on_start(code: CodeType, _offset: int) -> Any:
            if is_user_code(code.co_filename):
                sys.monitoring.set_local_events(tool, code, _CALL)
            return _DISABLE

        sys.monitoring.use_tool_id(tool, "outlast")
        sys.monitoring.register_callback(tool, _PY_START, on_start)
        sys.monitoring.register_callback(tool, _CALL, _on_call)
        sys.monitoring.set_events(tool, _PY_START)
        for event in (_PY_START, _CALL):  # when the interpreter ends, user code may outlive this module
            atexit.register(sys.monitoring.register_callback, tool, event, None)

    def _on_call(_code: CodeType, _offset: int, called: object, first: object) -> Any:
        refusal = _refusal_of(called, first)
        if refusal is None:
            return _DISABLE
        if _here.depth and not _is_excused(sys._getframe(1)):
            raise DeterminismError(*refusal)
        return None

    def _refusal_of(called: object, first: object) -> _Refusal | None:
        if isinstance(called, BuiltinFunctionType):
            return _refusal_of_builtin(called)
        if isinstance(called, FunctionType) and first is _GENERATOR:  # as Python 3.14 reports a bound method
            return _CALLS.get(MethodType(called, first))
        if isinstance(called, FunctionType | MethodType):
            return _CALLS.get(called)
        if called is random.SystemRandom:
            return _SYSTEM_RANDOM
        return _UNSEEDED if called is random.Random and (first is _MISSING or first is None) else None

else:

    def _install_call_watch() -> None:
        """Do nothing: the profile function is set when a profiled guard is entered."""


# A call of a Python function is reported as its new frame, so functions are recognised by their code here.
_FUNCTION_CODES = {id(f.__code__): refusal for f, refusal in _CALLS.items() if isinstance(f, FunctionType)}
_METHOD_CODES = {id(f.__func__.__code__) for f in _CALLS if isinstance(f, MethodType)}
_RANDOM_INIT = random.Random.__init__.__code__
_CODES = frozenset({*_FUNCTION_CODES, *_METHOD_CODES, id(_RANDOM_INIT)})


def _on_profile(frame: FrameType, event: str, called: Any) -> None:
    # This runs at every call and return, so two cheap tests that dismiss most of them come first.
    caller: FrameType | None
    if event == "c_call":
        if called not in _CALLS and called.__name__ not in _DATE_CLOCKS:
            return
        caller, refusal = frame, _refusal_of_builtin(called)
    elif event == "call":
        if id(frame.f_code) not in _CODES:
            return
        caller, refusal = frame.f_back, _refusal_of_function(frame)
    else:
        return
    if refusal is None or caller is None:
        return
    by_user = called in _CALLS_ANYWHERE or is_user_code(caller.f_code.co_filename)
    if _here.depth and by_user and not _is_excused(caller):
        raise DeterminismError(*refusal)


def _refusal_of_function(frame: FrameType) -> _Refusal | None:
    code = frame.f_code
    if (refusal := _FUNCTION_CODES.get(id(code))) is not None:
        return refusal
    generator = frame.f_locals["self"]
    if isinstance(generator, random.SystemRandom):
        return _SYSTEM_RANDOM
    if code is _RANDOM_INIT:
        return _UNSEEDED if frame.f_locals["x"] is None else None
    return (f"random.{code.co_name}()", _RANDOM) if generator is _GENERATOR else None


_install_lock = threading.Lock()
_installed = False


def _install() -> None:
    global _installed
    if _installed:
        return
    with _install_lock:
        if not _installed:
            sys.addaudithook(_on_audit)
            _install_call_watch()
            _installed = True
