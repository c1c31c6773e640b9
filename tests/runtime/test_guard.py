"""The determinism guard: the calls that it refuses to workflow code, other code, and its costs."""

import _thread
import asyncio
import datetime
import importlib
import json
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import outlast
from outlast.core.errors import DeterminismError
from outlast.runtime.definitions import determinism_guard
from outlast.runtime.definitions.determinism_guard import own_code, watch, workflow_code
from outlast.runtime.executions.workflow_loop import WorkflowLoop
from outlast.runtime.isolation import user_code

Call = Callable[[], object]

OUTSIDE: dict[str, Call] = {
    "a socket": lambda: socket.socket(),
    "getaddrinfo": lambda: socket.getaddrinfo("localhost", 80),
    "gethostbyname": lambda: socket.gethostbyname("localhost"),
    "a connection": lambda: socket.create_connection(("127.0.0.1", 1)),
    "a thread": lambda: threading.Thread(target=print).start(),
    "a bare thread": lambda: _thread.start_new_thread(print, ()),
    "a subprocess": lambda: subprocess.run([sys.executable, "-c", ""]),
    "os.system": lambda: os.system("true"),
    "os.fork": lambda: os.fork(),
    "os.execv": lambda: os.execv("/does/not/exist", ["x"]),
    "os.posix_spawn": lambda: os.posix_spawn("/does/not/exist", ["x"], {}),
    "time.sleep": lambda: time.sleep(0),
}

ALIASED_NOW = datetime.datetime.now
aliased_time = time.time


class LocalDatetime(datetime.datetime):
    """A subclass of the application's."""


CLOCKS: dict[str, Call] = {
    "time.time": lambda: time.time(),
    "time.time under another name": lambda: aliased_time(),
    "time.time with unpacked arguments": lambda: time.time(*()),
    "time.time_ns": lambda: time.time_ns(),
    "time.monotonic": lambda: time.monotonic(),
    "time.monotonic_ns": lambda: time.monotonic_ns(),
    "time.perf_counter": lambda: time.perf_counter(),
    "time.perf_counter_ns": lambda: time.perf_counter_ns(),
    "time.process_time": lambda: time.process_time(),
    "time.clock_gettime": lambda: time.clock_gettime(time.CLOCK_REALTIME),
    "datetime.now": lambda: datetime.datetime.now(),
    "datetime.now with a zone": lambda: datetime.datetime.now(datetime.UTC),
    "datetime.now of an alias": lambda: ALIASED_NOW(),
    "datetime.now of a subclass": lambda: LocalDatetime.now(),
    "datetime.today": lambda: datetime.datetime.today(),
    "date.today": lambda: datetime.date.today(),
}

RANDOMNESS: dict[str, Call] = {
    "random.random": lambda: random.random(),
    "random.randint": lambda: random.randint(1, 6),
    "random.choice": lambda: random.choice("ab"),
    "random.shuffle": lambda: random.shuffle([1, 2]),
    "random.sample": lambda: random.sample("ab", k=1),
    "random.uniform": lambda: random.uniform(0, 1),
    "random.getrandbits": lambda: random.getrandbits(8),
    "random.Random": lambda: random.Random(),
    "random.SystemRandom": lambda: random.SystemRandom(),
    "uuid.uuid1": lambda: uuid.uuid1(),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "os.urandom": lambda: os.urandom(8),
    "secrets.token_hex": lambda: secrets.token_hex(),
    "secrets.token_bytes": lambda: secrets.token_bytes(4),
    "secrets.choice": lambda: secrets.choice("ab"),
    "secrets.randbelow": lambda: secrets.randbelow(4),
    "secrets.randbits": lambda: secrets.randbits(4),
}

HARMLESS: dict[str, Call] = {
    "datetime arithmetic": lambda: datetime.datetime(2026, 1, 1) + datetime.timedelta(days=1),
    "datetime.fromtimestamp": lambda: datetime.datetime.fromtimestamp(0, datetime.UTC),
    "date.fromisoformat": lambda: datetime.date.fromisoformat("2026-01-01"),
    "a seeded generator": lambda: random.Random(7).randint(1, 6),
    "a seeded generator's choice": lambda: random.Random("seed").choice("abc"),
    "uuid.UUID": lambda: uuid.UUID(int=4),
    "uuid.uuid5": lambda: uuid.uuid5(uuid.NAMESPACE_URL, "https://example.com"),
    "secrets.compare_digest": lambda: secrets.compare_digest("a", "b"),
    "a library that reads a clock": lambda: logging.makeLogRecord({}),
    "an import": lambda: importlib.import_module("colorsys"),
    "a file of the machine": lambda: Path(__file__).exists(),
}


def named(calls: dict[str, Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", list(calls.values()), ids=list(calls))


@pytest.fixture(autouse=True)
def _watched_by_nobody_else() -> Iterator[None]:
    before = sys.getprofile()
    yield
    assert sys.getprofile() is before
    assert determinism_guard._here.depth == 0
    assert determinism_guard._here.entered_by is None


@named(OUTSIDE)
def test_a_call_that_reaches_outside_is_refused(call: Call) -> None:
    with workflow_code(), pytest.raises(DeterminismError, match="is not possible in workflow code: "):
        call()


@named(CLOCKS)
def test_a_clock_is_refused_and_workflow_now_named(call: Call) -> None:
    with workflow_code(), pytest.raises(DeterminismError, match=r"use workflow\.now\(\)"):
        call()


@named(RANDOMNESS)
def test_randomness_is_refused_and_its_durable_counterpart_named(call: Call) -> None:
    with (
        workflow_code(),
        pytest.raises(DeterminismError, match=r"use workflow\.(random\(\)|uuid4\(\))"),
    ):
        call()


@named(CLOCKS | RANDOMNESS)
def test_a_call_site_that_ran_outside_before_is_refused_inside_every_time(call: Call) -> None:
    for _ in range(3):
        call()
        for _ in range(3):
            with workflow_code(), pytest.raises(DeterminismError):
                call()
    call()


def test_the_message_names_the_call_and_says_what_to_do() -> None:
    with workflow_code():
        with pytest.raises(DeterminismError) as clock:
            time.time()
        assert str(clock.value) == (
            "time.time() is not possible in workflow code: use workflow.now(), or do it in an activity"
        )
    with workflow_code(), pytest.raises(DeterminismError) as sleep:
        time.sleep(1)
    assert str(sleep.value) == (
        "time.sleep() is not possible in workflow code: await asyncio.sleep(), which is durable here"
    )


@named(HARMLESS)
def test_calls_that_a_replay_repeats_are_allowed(call: Call) -> None:
    with workflow_code():
        call()


@named({name: call for name, call in (OUTSIDE | CLOCKS | RANDOMNESS).items() if "fork" not in name})
def test_other_threads_are_left_alone_meanwhile(call: Call) -> None:
    go, gone = threading.Event(), threading.Event()
    outcome: list[object] = []

    def elsewhere() -> None:
        go.wait()
        outcome.extend(attempt(call))
        gone.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    with workflow_code():
        go.set()
        gone.wait()
    thread.join()
    assert not [result for result in outcome if isinstance(result, DeterminismError)]


def attempt(call: Call) -> list[object]:
    try:
        result = call()
    except Exception as error:
        return [error]
    if isinstance(result, socket.socket | asyncio.AbstractEventLoop):
        result.close()
    return [result]


def test_a_guard_within_a_guard_ends_with_the_outer_one() -> None:
    with workflow_code():
        with workflow_code():
            pass
        with pytest.raises(DeterminismError):
            time.sleep(0)
    with workflow_code(profile=False):
        with workflow_code():
            pass
        assert sys.getprofile() is None
    time.sleep(0)


def test_a_refusal_that_is_caught_leaves_audited_calls_refused() -> None:
    with workflow_code():
        for _ in range(2):
            with pytest.raises(DeterminismError):
                socket.socket()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="only Python 3.11 needs a profile function")
def test_the_profile_function_can_be_left_out() -> None:
    with workflow_code(profile=False):
        assert sys.getprofile() is None
        assert time.time()
        with pytest.raises(DeterminismError):
            socket.socket()


class ClockReadingHandler(logging.Handler):
    """A handler of the application's that does all that workflow code may not."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[str, float, uuid.UUID]] = []

    def emit(self, record: logging.LogRecord) -> None:
        socket.socket().close()
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        self.written.append((record.getMessage(), time.time(), uuid.uuid4()))


def test_workflow_code_may_log_whatever_the_handlers_do() -> None:
    handler = ClockReadingHandler()
    logger = logging.getLogger("an.application")
    logger.addHandler(handler)
    try:
        with workflow_code():
            logger.warning("from a %s", "workflow")
    finally:
        logger.removeHandler(handler)
    assert [message for message, *_ in handler.written] == ["from a workflow"]


def test_a_module_imported_by_workflow_code_may_read_a_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reads_a_clock.py").write_text(
        "import time\nat = time.time()\ndef now(): return time.time()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with workflow_code():
        import reads_a_clock  # type: ignore[import-not-found]  # written by the test

        with pytest.raises(DeterminismError):
            reads_a_clock.now()
    assert reads_a_clock.at


def module_in(directory: str, name: str) -> ModuleType:
    """Return a module that says it comes from a file of that directory."""
    module = ModuleType(name)
    module.__file__ = os.path.join(directory, f"{name}.py")
    source = "import time\n\ndef now():\n    return time.time()\n"
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    return module


def test_installed_libraries_may_read_clocks_until_they_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = module_in(sysconfig.get_path("purelib"), "an_installed_application")
    monkeypatch.setitem(sys.modules, installed.__name__, installed)
    monkeypatch.setattr(user_code, "_added", [])
    with workflow_code():
        installed.now()
    watch("an_installed_application.workflows")
    with workflow_code(), pytest.raises(DeterminismError):
        installed.now()


def test_nothing_of_this_package_and_nothing_that_is_not_imported_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched: list[str] = []
    monkeypatch.setattr(user_code, "_added", watched)
    watch(determinism_guard.__name__)
    watch("a_module_that_nobody_imported")
    assert not watched


@pytest.mark.parametrize("name", ["<stdin>", "<ipython-input-1>", "/app/main.py", "<string>"])
def test_code_typed_at_a_prompt_or_generated_is_user_code(name: str) -> None:
    assert user_code.is_user_code(name)


@pytest.mark.parametrize(
    "name", ["<frozen importlib._bootstrap>", asyncio.__file__, pytest.__file__, determinism_guard.__file__]
)
def test_code_of_python_and_its_libraries_and_of_this_package_is_not_user_code(name: str) -> None:
    assert not user_code.is_user_code(name)


def test_workflows_that_the_package_ships_for_tests_are_user_code() -> None:
    package = Path(outlast.__file__).parent
    assert user_code.is_user_code(str(package / "testing" / "workflows.py"))


def test_workflow_code_on_the_loop_is_refused_at_the_call_and_may_catch_it() -> None:
    async def main() -> list[str]:
        messages = []
        for call in (CLOCKS["datetime.now"], RANDOMNESS["uuid.uuid4"], OUTSIDE["a thread"]):
            await asyncio.sleep(1)
            try:
                call()
            except DeterminismError as error:
                messages.append(error.what)
        return messages

    waiting: list[str] = []
    loop = WorkflowLoop(
        on_timer=lambda key, _when: waiting.append(key), on_timer_cancelled=waiting.remove, start_time=0.0
    )
    root = loop.start(main())
    while not root.done():
        with workflow_code():
            loop.drain()
        for key in waiting:
            loop.fire(key)
        waiting.clear()
    assert root.result() == ["datetime.now()", "uuid.uuid4()", "starting a thread"]
    loop.close()


def run_apart(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_and_never_using_the_guard_installs_nothing() -> None:
    script = """
        import sys
        audited = []
        sys.addaudithook(lambda event, arguments: audited.append(event))
        import outlast.runtime.definitions.determinism_guard
        assert "sys.addaudithook" not in audited
        assert sys.getprofile() is None
        if sys.version_info >= (3, 12):
            assert not any(map(sys.monitoring.get_tool, range(6)))
        outlast.runtime.definitions.determinism_guard.workflow_code()
        assert "sys.addaudithook" in audited
    """
    ran = run_apart("-c", textwrap.dedent(script))
    assert ran.returncode == 0, ran.stderr


def test_code_that_runs_while_the_interpreter_ends_does_not_meet_the_emptied_guard() -> None:
    script = """
        import atexit, sys
        from outlast.runtime.definitions import determinism_guard

        def never_called_before():
            return len("late")

        def last():
            names = vars(determinism_guard)
            names.update(dict.fromkeys(names))  # as the interpreter does with modules in use
            sys.audit("cpython.an_event")
            print(never_called_before())

        atexit.register(last)
        with determinism_guard.workflow_code():
            pass
    """
    ran = run_apart("-c", textwrap.dedent(script))
    assert (ran.stdout, ran.stderr) == ("4\n", "")


MEASURED = """
import time
from outlast.core.errors import DeterminismError
from outlast.runtime.definitions.determinism_guard import workflow_code

def forbidden():
    return time.time()  # a line

def helper(flag):
    if flag:
        return 1
    return 2

forbidden()
for _ in range(3):
    with workflow_code():
        try:
            forbidden()
        except DeterminismError:
            caught = True
        else:
            raise AssertionError("not refused")
        helper(True)
forbidden()
"""


@pytest.mark.parametrize("core", ["ctrace", "pytrace", "sysmon"])
def test_coverage_is_measured_and_calls_are_refused_at_once(core: str, tmp_path: Path) -> None:
    pytest.importorskip("coverage")
    if core == "sysmon" and sys.version_info < (3, 12):
        core = "ctrace"
    (tmp_path / "measured.py").write_text(MEASURED)
    ran = run_apart("-m", "coverage", "run", "--rcfile=", "measured.py", cwd=tmp_path, COVERAGE_CORE=core)
    assert ran.returncode == 0, ran.stderr
    run_apart("-m", "coverage", "json", "--rcfile=", "-o", "report.json", cwd=tmp_path, COVERAGE_CORE=core)
    report = json.loads((tmp_path / "report.json").read_text())
    lines = MEASURED.splitlines()
    never = ["    return 2", '            raise AssertionError("not refused")']
    assert report["files"]["measured.py"]["missing_lines"] == [1 + lines.index(line) for line in never]


def test_a_profiler_of_the_application_is_left_in_place() -> None:
    seen: list[str] = []

    def profiler(_frame: object, event: str, _called: object) -> None:
        seen.append(event)

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        with workflow_code():
            inside = sys.getprofile()
            with pytest.raises(DeterminismError):
                socket.socket()
    finally:
        sys.setprofile(before)
    assert inside is profiler
    assert "c_call" in seen


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in Python 3.12")
def test_without_a_free_tool_number_a_warning_says_that_clocks_are_not_noticed() -> None:
    script = """
        import logging, socket, sys, time
        for number in (3, 4):
            sys.monitoring.use_tool_id(number, "someone")
        logging.basicConfig()
        from outlast.runtime.definitions.determinism_guard import workflow_code
        with workflow_code():
            time.time()
        try:
            with workflow_code():
                socket.socket()
        except Exception as error:
            print(type(error).__name__)
    """
    ran = run_apart("-c", textwrap.dedent(script))
    assert ran.stdout == "DeterminismError\n", ran.stderr
    assert "no tool id left" in ran.stderr


def test_code_of_our_own_is_not_watched_and_code_after_it_is() -> None:
    def fail() -> None:
        with own_code(), own_code():
            raise ValueError("ours")

    with workflow_code():
        watching = sys.getprofile()
        with own_code():
            assert sys.getprofile() is None or sys.version_info >= (3, 12)
            with own_code():
                pass
            assert sys.getprofile() is None or sys.version_info >= (3, 12)
            with pytest.raises(DeterminismError, match="socket"):
                socket.socket()
        assert sys.getprofile() is watching
        with pytest.raises(ValueError, match="ours"):
            fail()
        assert sys.getprofile() is watching
        with pytest.raises(DeterminismError, match="use workflow"):
            time.time()
    assert sys.getprofile() is not watching or watching is None


def test_code_of_our_own_leaves_a_profiler_alone() -> None:
    def profiler(*_: object) -> None:
        pass

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        with workflow_code(), own_code():
            inside = sys.getprofile()
    finally:
        sys.setprofile(before)
    assert inside is profiler


def test_many_threads_may_enter_the_guard_at_once() -> None:
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            for _ in range(1_000):
                with workflow_code(), own_code():
                    pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=enter) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
