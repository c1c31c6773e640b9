"""The target of an examination: which tests it stands for, and whether it can be examined at all.

Nothing here imports pytest or the suites, so that what is wrong with a target is said at once.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from outlast.core.errors import ConfigurationError
from outlast.testing.conformance import ENTRY_POINTS

LOOK_SECONDS = 20.0
"""The time that the first connection to a URL may take."""

WITHOUT_SERVER = ("memory", "sqlite")
"""The schemes of what is always there."""


def tests_of(target: str) -> list[str]:
    """Return pytest's arguments for a file of tests, or for the module of suites of a URL's scheme.

    Raises:
        ConfigurationError: the target is neither a file nor a URL, or nobody has registered suites for it.
    """
    path = target.partition("::")[0]
    if path.endswith(".py"):
        if not Path(path).is_file():
            raise ConfigurationError(
                f"there is no file {path}; give a file with test classes that inherit the suites"
            )
        return [target]
    scheme = urlsplit(target).scheme
    if not scheme:
        raise ConfigurationError(
            f"{target!r} is neither a URL, such as redis://127.0.0.1:6379/0, nor a Python file of tests"
        )
    known = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    if scheme not in known:
        raise ConfigurationError(
            f"no package has registered suites for {scheme}: (known: {', '.join(sorted(known))}); register a "
            f"module that inherits them by an entry point {scheme!r} in the group {ENTRY_POINTS!r}, or name "
            "the file of tests instead of a URL"
        )
    spec = find_spec(known[scheme])
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"the entry point {scheme!r} of {ENTRY_POINTS!r} names {known[scheme]!r}, which is not a module "
            "that can be imported; install its package anew"
        )
    return [spec.origin]


def check(target: str) -> None:
    """Return if the target can be examined.

    Raises:
        OutlastError: it is a bad URL, its server does not answer, or it needs an extra that is missing.
    """
    if tests_of(target) != [target] and urlsplit(target).scheme not in WITHOUT_SERVER:
        asyncio.run(_look(target))


async def _look(url: str) -> None:
    """Open the backend at the URL and close it; raises OutlastError, which says what to do, if it cannot."""
    from outlast.composition.backends import connect

    try:
        async with asyncio.timeout(LOOK_SECONDS), connect(url) as backend:
            await backend.list(limit=1)
    except TimeoutError as error:
        raise ConfigurationError(
            f"the server of {urlsplit(url).scheme}: gave no answer in {LOOK_SECONDS:g} s; start it, or "
            "correct the URL"
        ) from error


def without_password(target: str) -> str:
    """Return the target as it may be shown."""
    parts = urlsplit(target)
    if "@" not in parts.netloc:
        return target
    return target.replace(parts.netloc, f"…@{parts.netloc.rpartition('@')[2]}")
