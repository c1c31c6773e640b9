"""The deterministic event loop that workflow code runs on.

Workflow code is an ordinary `async def` over ordinary asyncio. The loop below it makes it reproducible:

- It never waits and reads no clock. Its driver sets the time (`advance`), says which timers are due (`fire`),
  completes futures that it handed out, and then lets everything that became ready run (`drain`). Ready
  callbacks run first in, first out, so equal inputs in equal order give equal runs.
- A request of workflow code carries a key, `<task path>:<n>`: the n-th request of the task at that path. The
  root task has the empty path, the i-th task created by a task has its parent's path and `i`. So a key says
  where in the program a request stands, and does not depend on the order in which other branches went on.
- Tasks and futures hash by their place in the program instead of their address, so the sets that
  `asyncio.wait` returns, and those inside TaskGroup and `as_completed`, iterate alike in every process.
- Everything that reaches outside the process (sockets, pipes, executors, signals, other threads) is refused.

Keys depend on asyncio itself: `asyncio.wait_for` makes a task on Python 3.11 but not from 3.12 on. An
execution therefore stays on the minor version of Python that it began on.

The loop relies on three things of CPython 3.11 to 3.14: `_set_running_loop`; `_leave_task` and `_enter_task`,
which asyncio documents for those who extend it; and the code of `as_completed`, see `completion_order`.
"""

import asyncio
import logging
import math
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from itertools import repeat
from typing import Any, Never, TypeVar, TypeVarTuple, cast

from outlast.core.errors import DeterminismError
from outlast.runtime.definitions.determinism_guard import user_code
from outlast.runtime.executions.completion_order import ENSURE_FUTURE, coroutines_completed
from outlast.runtime.executions.unwinding import ExecutionEvicted, Unwinding, is_unfinished
from outlast.runtime.isolation.exits import contained, only_cancellation, raised_by_signal
from outlast.runtime.isolation.user_code import place_in

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_Coroutine = Generator[Any, None, T] | Coroutine[Any, Any, T]

logger = logging.getLogger("outlast.workflow")

OUTSIDE_TASKS = "~"
"""The path of requests made by a callback, when no task is current."""

_SWEEP_SIZE_MIN = 16


class WorkflowTask(asyncio.Task[T]):
    """A task that knows its place in the program, and the number of its requests and children."""

    __slots__ = ("_hash", "children", "context", "is_own_code", "path", "requests")

    def __init__(
        self,
        coroutine: _Coroutine[T],
        *,
        loop: "WorkflowLoop",
        path: str,
        identity: int,
        name: str | None,
        context: Context,
        **options: Any,
    ) -> None:
        # This comes before the base class, which adds the task to a set and so needs its hash.
        self._hash = identity
        self.path = path
        self.requests = 0
        self.children = 0
        self.context = context
        self.is_own_code = False
        """True if no code of a user runs in it; see `determinism_guard.mark_own_code`."""
        super().__init__(
            cast("Coroutine[Any, Any, T]", coroutine),
            loop=loop,
            name=name or f"Task-{path or 'main'}",
            context=context,
            **options,
        )

    def __hash__(self) -> int:
        return self._hash


class WorkflowFuture(asyncio.Future[T]):
    """A future whose hash is the same in every replay."""

    __slots__ = ("_hash",)

    def __init__(self, *, loop: "WorkflowLoop", identity: int) -> None:
        self._hash = identity
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._hash


def _run_with_guard(handle: asyncio.Handle) -> None:
    """Run a callback, and watch for what code of a user calls, unless it is a step of own code."""
    task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]  # no other way
    if type(task) is WorkflowTask and task.is_own_code:
        handle._run()
    else:
        with user_code():
            handle._run()


_run = _run_with_guard if sys.version_info < (3, 12) else asyncio.Handle._run


class WorkflowTimer(asyncio.TimerHandle):
    """A callback that waits for `WorkflowLoop.fire(key)`; the key is empty when it was due at once."""

    __slots__ = ("key",)

    key: str


def _unwinds(error: BaseException) -> bool:
    return isinstance(error, ExecutionEvicted) or only_cancellation(error)


def _refused(call: str, instead: str | None = None) -> Any:
    def refuse(*_arguments: Any, **_options: Any) -> Never:
        raise DeterminismError(call) if instead is None else DeterminismError(call, instead)

    return refuse


class WorkflowLoop(asyncio.AbstractEventLoop):
    """An event loop that runs one execution's code, step by step, as its driver says.

    `on_timer(key, when)` is called when a timer is wanted at `when` (epoch seconds),
    `on_timer_cancelled(key)`, once, when a wanted timer that has not fired is no longer wanted. `start_time`
    is the first workflow time; it must come from the journal, since the hashes of tasks derive from it.
    `root_path` is the path of the root task.

    Call `close` when done with it, also after the root task has finished. Not thread-safe; one thread at a
    time.
    """

    def __init__(
        self,
        *,
        on_timer: Callable[[str, float], None],
        on_timer_cancelled: Callable[[str], None],
        start_time: float,
        root_path: str = "",
    ) -> None:
        self._on_timer = on_timer
        self._on_timer_cancelled = on_timer_cancelled
        self._now = start_time
        self._root_path = root_path
        # asyncio keeps the tasks of all loops in one set: hashes that began at 0 in each loop would collide
        # there.
        self._next_identity = hash(start_time)
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: dict[str, WorkflowTimer] = {}
        # These references are strong, unlike in asyncio: a workflow must not depend on the time at which the
        # garbage collector runs.
        self._tasks: list[WorkflowTask[Any]] = []
        self._generators: list[AsyncGenerator[Any, Any]] = []
        self._tasks_sweep_size = self._generators_sweep_size = _SWEEP_SIZE_MIN
        self._wrapped_early: dict[int, WorkflowTask[Any]] = {}
        """Tasks that were made before `as_completed` asked for them, by the id of their coroutine."""
        self._requests = 0
        self._children = 0
        self._unwinding = Unwinding()
        self.dropped_at = self._unwinding.dropped_at
        """The places of code that did not end when the loop was closed."""
        self._root: WorkflowTask[Any] | None = None
        self._closed = False

    # The driver's side

    def start(self, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Create the root task, which runs `main` and then closes the asynchronous generators it left open.

        It runs in a copy of the current context. `drain` begins it.
        """
        if self._root is not None:
            raise RuntimeError("this loop has its root task already: make a loop per execution")
        task: WorkflowTask[T] = self._new_task(self._root_path, self._main(main), name=None, context=None)
        self._root = task
        return task

    def drain(self, limit: int | None = None) -> bool:
        """Run ready callbacks, and those they make ready, up to `limit`; return whether none is left.

        This works from a plain callback of another loop, inside a task of another loop, and without another
        loop. During the call this loop is the running one and no outer task is current; both are restored in
        every case. An exception of workflow code ends its task, also `SystemExit`; an exception of a signal
        handler of the process is passed on.
        """
        ready = self._ready
        if not ready:
            return True
        numbers = repeat(None) if limit is None else range(limit)
        outer = self._enter()
        try:
            for _ in numbers:
                if not ready:
                    break
                handle = ready.popleft()
                if not handle._cancelled:
                    try:
                        _run(handle)
                    except (KeyboardInterrupt, SystemExit) as error:
                        self._exited(handle, error)
        finally:
            _leave(outer)
        return not ready

    def place(self) -> str:
        """Return the place of the code that runs next."""
        for handle in self._ready:
            task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]  # no other way
            if isinstance(task, asyncio.Task):
                return place_in(task.get_coro())
        return "an unknown place"

    def _exited(self, handle: asyncio.Handle, error: BaseException) -> None:
        """Go on after an exception that asyncio does not catch; a task that raised it has kept it."""
        if raised_by_signal(error):
            raise error
        if not isinstance(getattr(handle._callback, "__self__", None), asyncio.Task):  # type: ignore[attr-defined]
            self.call_exception_handler({"message": f"exception in {handle!r}", "exception": error})

    def advance(self, now: float) -> None:
        """Set the workflow time to `now`, in epoch seconds; it never goes back."""
        self._now = max(self._now, now)

    def fire(self, key: str) -> None:
        """Make the callback of the waiting timer `key` ready; raises `KeyError` if no such timer waits."""
        self._ready.append(self._timers.pop(key))

    def next_key(self) -> str:
        """Return the key of the next request of the current task, `<path>:<n>`; outside a task, `~:<n>`."""
        if self._closed:
            self._unwinding.refuse()
            return ""
        task = asyncio.current_task(self)
        if isinstance(task, WorkflowTask):
            key = f"{task.path}:{task.requests}"
            task.requests += 1
        else:
            key = f"{self._root_path}{OUTSIDE_TASKS}:{self._requests}"
            self._requests += 1
        return key

    def close(self) -> None:
        """Drop the execution from memory: no part of it goes on, and it makes no more requests.

        Python cannot discard a suspended coroutine without unwinding it, so `finally` blocks and `__exit__`
        methods of unfinished tasks do run, but they can do nothing durable. They are unwound by
        `ExecutionEvicted`, which `except Exception` and `except CancelledError` let pass, each task in its
        own context, younger tasks first. Every request (`next_key`), timer and task that they ask for raises
        it again; so does an await of anything pending. Cancelling a timer does not notify the driver, since
        in the journal the timer lives on. Exceptions that they raise are logged at debug level. The driver
        holds the guard around this call as around `drain`, so that sockets and the like stay refused.
        `is_closed()` is true, so that a logger is silent.

        Code that catches even `ExecutionEvicted` and goes on (a bare `except:` in a loop) is dropped where it
        stands, after some attempts. It then stays in memory, because Python would go on running it in order
        to free it; `dropped_at` has its place.

        Afterwards unfinished tasks stay pending for ever, without the warnings that asyncio has for such
        tasks. A second call does nothing.
        """
        if self._closed:
            return
        if self.is_running():
            raise RuntimeError("a workflow loop cannot be closed by the code that it runs")
        if self._root is not None and self._root.done():
            self._sweep_tasks()  # the last chance to log a failure that nobody retrieved
        self._closed = True
        self._ready.clear()
        self._timers.clear()
        outer = self._enter()
        try:
            for task in reversed(self._tasks):
                if task.done():
                    _mark_retrieved(task)
                else:
                    self._unwinding.unwind(self, task, task.context, task.get_coro())
            while self._generators:
                self._unwinding.unwind(self, self._root, copy_context(), self._generators.pop())
        finally:
            _leave(outer)
            self._tasks.clear()
            self._generators.clear()
            self._root = None
            self._on_timer = _ignore_timer
            self._on_timer_cancelled = _ignore_timer

    def is_closed(self) -> bool:
        return self._closed

    def is_running(self) -> bool:
        """Return whether this loop is the one that runs in the calling thread."""
        return asyncio._get_running_loop() is self

    # Workflow code's side, by way of asyncio

    def time(self) -> float:
        """Return the workflow time in epoch seconds, which stands still between two calls of `advance`."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        # Unwinding an evicted execution completes futures; tasks that wait for them must not be woken.
        if not self._closed:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        if not self.is_running():
            raise DeterminismError("a callback from another thread")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if self._closed:
            self._unwinding.refuse()
            never = WorkflowTimer(when, callback, args, self, context)
            never.key = ""
            return never
        if not math.isfinite(when):
            raise ValueError(
                f"a timer needs a finite time, not {when}; to wait for ever, await asyncio.Event().wait()"
            )
        timer = WorkflowTimer(when, callback, args, self, context)
        if when <= self._now:
            timer.key = ""
            self._ready.append(timer)
        else:
            timer.key = self.next_key()
            self._timers[timer.key] = timer
            self._on_timer(timer.key, when)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, WorkflowTimer) and self._timers.pop(handle.key, None) is not None:
            self._on_timer_cancelled(handle.key)

    def create_future(self) -> asyncio.Future[Any]:
        return WorkflowFuture(loop=self, identity=self._new_identity())

    def create_task(
        self,
        coro: _Coroutine[T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        if self._closed:
            coro.close()
            self._unwinding.refuse()
            return cast("asyncio.Task[T]", self.create_future())
        if sys._getframe(1).f_code is ENSURE_FUTURE:
            for listed in () if self._wrapped_early else coroutines_completed():
                if id(listed) not in self._wrapped_early:
                    self._wrapped_early[id(listed)] = self._new_child(listed)
            if id(coro) in self._wrapped_early:
                return self._wrapped_early.pop(id(coro))
        return self._new_child(coro, name=name, context=context, **options)

    def _new_child(
        self, coro: _Coroutine[T], *, name: object = None, context: Context | None = None, **options: Any
    ) -> WorkflowTask[T]:
        parent = asyncio.current_task(self)
        if isinstance(parent, WorkflowTask):
            path = f"{parent.path}.{parent.children}" if parent.path else str(parent.children)
            parent.children += 1
        else:
            path = f"{self._root_path}{OUTSIDE_TASKS}.{self._children}"
            self._children += 1
        return self._new_task(path, coro, name=name, context=context, **options)

    def _new_task(
        self, path: str, coro: _Coroutine[T], *, name: object, context: Context | None, **options: Any
    ) -> WorkflowTask[T]:
        task = WorkflowTask(
            coro,
            loop=self,
            path=path,
            identity=self._new_identity(),
            name=None if name is None else str(name),
            context=copy_context() if context is None else context,
            **options,
        )
        if len(self._tasks) >= self._tasks_sweep_size:
            self._sweep_tasks()
        self._tasks.append(task)
        return task

    def _new_identity(self) -> int:
        self._next_identity += 1
        return self._next_identity

    def _sweep_tasks(self) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks_sweep_size = max(_SWEEP_SIZE_MIN, 2 * len(self._tasks))

    # Asynchronous generators

    async def _main(self, main: Awaitable[T]) -> T:
        try:
            return await main
        finally:
            if self._generators and not self._closed:
                await self.shutdown_asyncgens()

    def _adopt_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        if len(self._generators) >= self._generators_sweep_size:
            self._generators = [kept for kept in self._generators if is_unfinished(kept)]
            self._generators_sweep_size = max(_SWEEP_SIZE_MIN, 2 * len(self._generators))
        self._generators.append(generator)

    async def shutdown_asyncgens(self) -> None:
        """Close the asynchronous generators that were begun and not finished, oldest first, one by one.

        asyncio closes a generator when the garbage collector finds it, and so not at a fixed point.
        """
        while self._generators:
            generator = self._generators.pop(0)
            if generator.ag_running:  # type: ignore[attr-defined]  # missing in typeshed
                continue  # a task that outlives the root is inside it
            try:
                with contained(_unwinds):
                    await generator.aclose()
            except Exception as error:
                message = f"an error occurred while closing the asynchronous generator {generator!r}"
                self.call_exception_handler({"message": message, "exception": error, "asyncgen": generator})

    # Failures that no task waits for

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an exception that nobody retrieved; a closed loop logs nothing."""
        if not self._closed:
            self.default_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        details = [
            f"{key}: {context[key]!r}" for key in sorted(context) if key not in ("message", "exception")
        ]
        message = context.get("message") or "unhandled exception in workflow code"
        logger.error("\n".join([message, *details]), exc_info=context.get("exception"))

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    # asyncio asks for each future and handle; a call of a built-in costs next to nothing, and gives False.
    get_debug = staticmethod(bool)

    def _enter(self) -> "_Outer":
        loop = asyncio._get_running_loop()
        if loop is self:
            raise RuntimeError("a workflow loop cannot be drained by the code that it runs")
        task = None if loop is None else asyncio.current_task(loop)
        outer = (loop, task, sys.get_asyncgen_hooks())
        if loop is not None and task is not None:
            asyncio._leave_task(loop, task)
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(self._adopt_generator, None)
        return outer

    # What a workflow cannot do

    set_task_factory = _refused("loop.set_task_factory()", "create tasks by asyncio.create_task()")
    set_exception_handler = _refused(
        "loop.set_exception_handler()", "await the tasks and catch what they raise"
    )
    set_debug = _refused("loop.set_debug()", "set it on the loop that runs the worker")
    run_forever = _refused("loop.run_forever()", "await instead")
    run_until_complete = _refused("loop.run_until_complete()", "await instead")
    stop = _refused("loop.stop()", "return from the workflow instead")
    run_in_executor = _refused("a thread or process pool (loop.run_in_executor(), asyncio.to_thread())")
    set_default_executor = _refused("loop.set_default_executor()")
    shutdown_default_executor = _refused("loop.shutdown_default_executor()")
    getaddrinfo = _refused("loop.getaddrinfo()")
    getnameinfo = _refused("loop.getnameinfo()")
    create_connection = _refused("a network connection (loop.create_connection())")
    create_server = _refused("a network server (loop.create_server())")
    create_datagram_endpoint = _refused("a network connection (loop.create_datagram_endpoint())")
    create_unix_connection = _refused("a network connection (loop.create_unix_connection())")
    create_unix_server = _refused("a network server (loop.create_unix_server())")
    connect_accepted_socket = _refused("a network connection (loop.connect_accepted_socket())")
    start_tls = _refused("loop.start_tls()")
    sendfile = _refused("loop.sendfile()")
    connect_read_pipe = _refused("loop.connect_read_pipe()")
    connect_write_pipe = _refused("loop.connect_write_pipe()")
    subprocess_shell = _refused("a subprocess (loop.subprocess_shell())")
    subprocess_exec = _refused("a subprocess (loop.subprocess_exec())")
    add_reader = _refused("loop.add_reader()")
    remove_reader = _refused("loop.remove_reader()")
    add_writer = _refused("loop.add_writer()")
    remove_writer = _refused("loop.remove_writer()")
    sock_recv = _refused("loop.sock_recv()")
    sock_recv_into = _refused("loop.sock_recv_into()")
    sock_recvfrom = _refused("loop.sock_recvfrom()")
    sock_recvfrom_into = _refused("loop.sock_recvfrom_into()")
    sock_sendall = _refused("loop.sock_sendall()")
    sock_sendto = _refused("loop.sock_sendto()")
    sock_connect = _refused("loop.sock_connect()")
    sock_accept = _refused("loop.sock_accept()")
    sock_sendfile = _refused("loop.sock_sendfile()")
    add_signal_handler = _refused("loop.add_signal_handler()", "define a workflow signal")
    remove_signal_handler = _refused("loop.remove_signal_handler()", "define a workflow signal")


_Outer = tuple[asyncio.AbstractEventLoop | None, asyncio.Task[Any] | None, Any]
"""The earlier state of the thread: the loop, its current task, and the hooks for asynchronous generators."""


def _leave(outer: _Outer) -> None:
    loop, task, hooks = outer
    sys.set_asyncgen_hooks(*hooks)
    asyncio._set_running_loop(loop)
    if loop is not None and task is not None:
        asyncio._enter_task(loop, task)


def _mark_retrieved(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _ignore_timer(*_arguments: object) -> None:
    """Stand in for the driver once the loop is closed."""
