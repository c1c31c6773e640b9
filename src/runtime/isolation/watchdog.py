"""The watchdog: code of a user that holds the event loop for too long is interrupted.

A worker runs workflow code, and the attempts of asynchronous activities, in one thread. A loop without awaits
there, or a call that blocks, stops everything else: leases run out, and the next worker that claims the
execution stands still too. Therefore each entry into such code is marked as a `Section`, which costs less
than a microsecond. A thread looks at the mark now and then; when a section has lasted for longer than the
limit, `CodeInterrupted` is raised inside it. Whoever made the section decides what that means for the code.

The exception is raised in one of two ways:

- **In the main thread** by a handler of the signal SIGVTALRM. The watching thread sends the signal. A timer
  of the kernel sends it as well, whenever the process has used some CPU time, since the watching thread
  cannot run while a function written in C holds the interpreter. Many such functions let signal handlers run
  now and then, among them regular expressions and the arithmetic of long numbers. The signal also ends a call
  that blocks, such as `time.sleep`. CPU time does not pass while the process is suspended.
- **In any other thread** by `PyThreadState_SetAsyncExc`, which reaches Python code only. The same holds where
  the process uses SIGVTALRM itself, and on Windows.

What neither reaches is left to the supervisor of the process; see `outlast worker --processes`.

The exception must not hit our own code, however short the sections are:

- The handler runs in the thread that it interrupts, between two instructions, and knows the frame. It raises
  only while a section is open, and not in a frame of this package. So the exception passes `watched`, which
  opened the section, before it reaches anything else.
- An asynchronous exception may arrive late, after its section was left. The watching thread first notes the
  interruption in the section and looks only then whether the section is still open; `watched` closes the
  section first and looks only then whether an interruption is noted. So if the exception may come,
  `watched` knows, and waits for it.
- A library is interrupted only after a while of trying: a lock of `logging`, say, is held for a moment, while
  code that spins is soon met in a frame of its own.

Code that waits, in a call that blocks, has more time than code that computes, since it mostly ends by itself.
Time is counted in looks that lie apart, not by a clock alone: a process that was suspended for an hour sees
one look. Code that somebody steps through with a debugger is left alone. So is an import, which may take long
the first time and would have to begin anew the next time.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, TypeVar

from outlast.core.errors import CodeInterrupted
from outlast.runtime.isolation.at_work import MARKS, ON_LOOP
from outlast.runtime.isolation.user_code import is_user_code, place_of

T = TypeVar("T")

LOOKS: Final = 4
"""The number of looks that make up the limit."""
TRIES_IN_USER_CODE: Final = 2
"""The number of looks at overdue code after which libraries that it calls are interrupted too."""
BLOCKING_SECONDS: Final = 10.0
"""The time for which a call may wait, unless three times the limit is longer. Such a call mostly ends by
itself, and if it is cut short, nobody knows what became of it."""
BUSY_SHARE: Final = 0.05
"""The share of the time that a thread must compute, to count as busy; a busy machine gives it no more."""
SIGNALS_PER_LOOK: Final = 4
"""The number of signals that the timer sends between two looks. It counts CPU time, of which a process may
get a share only; a look is counted as soon as enough time has passed by the clock."""
AGAIN_SECONDS: Final = 0.005
"""The time until the next try, when an overdue section could not be interrupted where it was."""

_OWN: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "")
_DEBUGGERS: Final = ("bdb.py", "pydevd.py")
_IMPORT: Final = "<frozen importlib"
_SIGNAL: signal.Signals | None = getattr(signal, "SIGVTALRM", None)


class Section:
    """One entry into code of a user."""

    __slots__ = (
        "computed",
        "interruptions",
        "is_being_interrupted",
        "looks",
        "mark",
        "place",
        "seconds",
        "seen_at",
        "since",
        "tries",
        "waits",
    )

    def __init__(self, mark: int = 0) -> None:
        self.mark = mark
        """The mark of the execution whose code it is; see `at_work`."""
        self.interruptions = 0
        """How often the code was interrupted, or was about to be."""
        self.place = ""
        """Where the code was interrupted last."""
        self.seconds = 0.0
        """For how long it had run by then, at least."""
        self.since = self.seen_at = self.computed = 0.0
        self.looks = -1
        """How many looks found it computing, since it was interrupted last; -1 before the first look."""
        self.waits = 0
        """How many looks found it waiting, since then."""
        self.tries = 0
        """How many looks found it overdue, since then."""
        self.is_being_interrupted = False


class _WatchedThread(threading.local):
    """The watchdog of this thread, if any."""

    dog: _Watchdog | None = None


_here = _WatchedThread()


def watched(section: Section, run: Callable[..., T], *arguments: Any) -> T:
    """Return `run(*arguments)`, which the watchdog of this thread interrupts if it takes too long.

    Afterwards `section.interruptions` says whether it did. The code may then have ended by `CodeInterrupted`
    or in any other way, since it can catch that. Without a watchdog, this is a plain call.
    """
    dog = _here.dog
    if dog is None:
        return run(*arguments)
    # From the closing of the section to the end of this function no exception can come from the watchdog,
    # unless the section says so. Nothing here may be reordered; see the top of this module.
    outer, words = dog.section, dog.words
    outer_mark = words[ON_LOOP]
    try:
        words[ON_LOOP] = section.mark
        dog.section = section
        result = run(*arguments)
    except BaseException:
        dog.section = outer
        words[ON_LOOP] = outer_mark
        if section.interruptions:
            _settle(dog, section)
        raise
    dog.section = outer
    words[ON_LOOP] = outer_mark
    if section.interruptions:
        _settle(dog, section)
    return result


def _settle(dog: _Watchdog, section: Section) -> None:
    """Return once no exception is under way any more that was meant for a section that is closed now."""
    try:
        dog.withdraw(section)
    except CodeInterrupted:
        return  # There is room for one only.


@contextmanager
def watching(limit_seconds: float) -> Iterator[None]:
    """Watch this thread's sections for the time of the block; the shortest limit of several blocks counts."""
    dog = _here.dog
    if dog is None:
        dog = _here.dog = _Watchdog()
    dog.begin(limit_seconds)
    try:
        yield
    finally:
        if not dog.end(limit_seconds):
            _here.dog = None


class _Watchdog:
    """Watches the sections of the thread that made it."""

    def __init__(self) -> None:
        self.section: Section | None = None
        """The innermost section that is open."""
        self.words = MARKS.words
        self._thread_id = threading.get_ident()
        self._limits: list[float] = []
        self._news = threading.Event()
        """Set when the limits have changed."""
        self._by_signal = _install_handler()
        find_clock = getattr(time, "pthread_getcpuclockid", None)
        self._cpu_clock: int | None = None if find_clock is None else find_clock(self._thread_id)
        self._watching: threading.Thread | None = None

    def begin(self, limit_seconds: float) -> None:
        self._limits.append(limit_seconds)
        if self._by_signal:
            _watch_by_signal(self, self._period / SIGNALS_PER_LOOK)
        self._news.set()
        if self._watching is None:
            self._watching = threading.Thread(target=self._watch, name="outlast watchdog", daemon=True)
            self._watching.start()

    def end(self, limit_seconds: float) -> bool:
        """Take one limit away; return whether any is left. If not, nothing is watched any more."""
        self._limits.remove(limit_seconds)
        if self._limits:
            return True
        if self._by_signal:
            _watch_by_signal(None, 0.0)
        self._news.set()
        if self._watching is not None:
            self._watching.join()
        return False

    @property
    def _period(self) -> float:
        return min(self._limits, default=0.0) / LOOKS

    def _watch(self) -> None:
        pause = 0.0
        while True:
            if self._news.wait(pause):
                self._news.clear()
            if not self._limits:
                return
            pause = self._period
            section = self.section
            if section is not None and self.look(section, pause) and not self._is_interrupted(section):
                pause = AGAIN_SECONDS

    def look(self, section: Section, period: float) -> bool:
        """Count a look at an open section, if the last one is old enough; return whether it is overdue."""
        now = time.monotonic()
        if section.looks < 0:
            section.looks, section.since, section.seen_at = 0, now, now
            section.computed = self._computed()
        elif now - section.seen_at >= 0.9 * period:
            computed, before = self._computed(), section.computed
            if computed - before >= BUSY_SHARE * min(now - section.seen_at, period):
                section.looks += 1
            else:
                section.waits += 1
            section.seen_at, section.computed = now, computed
            section.tries += self._is_overdue(section, period)
        return self._is_overdue(section, period)

    def _is_overdue(self, section: Section, period: float) -> bool:
        looks = section.looks + section.waits
        return section.looks >= LOOKS or looks * period >= max(BLOCKING_SECONDS, 3 * LOOKS * period)

    def _computed(self) -> float:
        """Return for how long the watched thread has computed; where nobody knows, for ever."""
        if self._cpu_clock is None:
            return time.monotonic()
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:  # The thread has ended.
            return 0.0

    def on_signal(self, frame: FrameType | None) -> None:
        """Interrupt the open section, which runs in `frame`, if it is overdue."""
        section = self.section
        if section is None or not self._limits or not self.look(section, self._period):
            return
        if frame is not None and _can_be_interrupted(frame, section):
            self._note(section, frame)
            raise CodeInterrupted

    def _is_interrupted(self, section: Section) -> bool:
        """Interrupt the section from the watching thread, and return whether that is known to be done."""
        if self._by_signal:
            assert _SIGNAL is not None
            signal.pthread_kill(self._thread_id, _SIGNAL)
            return False
        frame = sys._current_frames().get(self._thread_id)
        if frame is None or not _can_be_interrupted(frame, section):
            return False
        section.is_being_interrupted = True
        try:
            self._note(section, frame)
            if self.section is section:
                _raise_in(self._thread_id, CodeInterrupted)
        finally:
            section.is_being_interrupted = False
        return True

    def _note(self, section: Section, frame: FrameType) -> None:
        section.interruptions += 1
        section.place = place_of(frame)
        section.seconds = section.seen_at - section.since
        # Code that catches the exception gets the next one after the same time.
        section.looks = section.waits = section.tries = 0

    def withdraw(self, section: Section) -> None:
        """Raise `CodeInterrupted` once more, and know afterwards that no other one is under way."""
        if self._by_signal:
            return  # The handler raises at once or not at all.
        # Workflow code may not call time.sleep(). Python lets the other thread run now and then all the same.
        while section.is_being_interrupted:
            pass
        # A thread has room for one such exception. Python can also be asked to take it back, but then it goes
        # on looking for it for ever; with a profiler, Python 3.11 even hangs.
        _raise_in(self._thread_id, CodeInterrupted)
        while True:
            pass


def _can_be_interrupted(frame: FrameType, section: Section) -> bool:
    """Return whether the code that runs in `frame` may be interrupted there, by the tries so far."""
    file = frame.f_code.co_filename
    if not is_user_code(file) and (section.tries <= TRIES_IN_USER_CODE or file.startswith(_OWN)):
        return False
    return not any(caller.startswith(_IMPORT) or caller.endswith(_DEBUGGERS) for caller in _files(frame))


def _files(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


def _raise_in(thread_id: int, kind: type[BaseException]) -> None:
    """Let an exception of that class be raised in a thread as soon as it runs Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(kind))


# The signal, of which a process has only one

_watched_by_signal: _Watchdog | None = None


def _install_handler() -> bool:
    """Return whether this thread can be interrupted by the signal; from then on the handler stays.

    A signal that comes late would end the process if the handler were taken away.
    """
    if _SIGNAL is None or threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(_SIGNAL) is _on_signal:
        return True
    if signal.getsignal(_SIGNAL) is not signal.SIG_DFL or any(signal.getitimer(signal.ITIMER_VIRTUAL)):
        return False  # The program uses it itself.
    with suppress(ValueError):  # This is another interpreter's main thread.
        signal.signal(_SIGNAL, _on_signal)
        # When the interpreter ends, it takes all handlers away, and the timer would end the process.
        atexit.register(_watch_by_signal, None, 0.0)
        return True
    return False


def _watch_by_signal(dog: _Watchdog | None, period: float) -> None:
    global _watched_by_signal
    _watched_by_signal = dog
    signal.setitimer(signal.ITIMER_VIRTUAL, period, period)


def _on_signal(_number: int, frame: FrameType | None) -> None:
    if _watched_by_signal is not None:
        _watched_by_signal.on_signal(frame)
