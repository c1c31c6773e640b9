"""The setting of every test: the Hypothesis profiles, golden files, and asyncio for `async def` tests.

An `async def` test or fixture just works, in a function, in a class and under `@given`: anyio's pytest plugin
runs it, each test (and each example) as a task of a fresh event loop unless a wider fixture holds one open.
A state machine's rules are synchronous; they await with an `asyncio.Runner` that the machine owns and closes.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Each run tries new examples, and a failure prints the blob that reproduces it. CI tries half as many, and
# the same ones every time, so that what fails there is the fault of the change at hand.
settings.register_profile(
    "default",
    settings(
        deadline=None,
        derandomize=False,
        max_examples=100,
        print_blob=True,
        # A contract suite is one class that several adapters inherit, so its tests have several executors.
        suppress_health_check=[HealthCheck.differing_executors],
    ),
)
settings.register_profile(
    "ci",
    settings.get_profile("default"),
    derandomize=True,
    max_examples=50,
    # A shared machine is slow now and then; that is not the test's fault.
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)
settings.register_profile("nightly", settings.get_profile("ci"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


# A shell's background jobs ignore interrupts, and so does all that they start. Here everything heeds them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The options are for this pytest, which has read them, and not for one that a test starts.
os.environ.pop("PYTEST_ADDOPTS", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag that rewrites golden files: look at the difference before you commit it."""
    parser.addoption("--rewrite-golden", action="store_true", help="write golden files as they are now")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadscope`, a run ends though a worker dies."""
    if config.getvalue("dist") != "loadscope":
        return None
    from tests.scheduling import EndingScheduling

    return EndingScheduling(config, log)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of every async test; of session scope, so that a fixture of any scope may be async."""
    return "asyncio"
