"""Callables: functions, methods, `functools.partial`, callable objects, and wrappers of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def is_async(fn: Callable[..., Any]) -> bool:
    """Return whether a call of `fn` certainly gives something to await."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def innermost(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that `fn` comes down to; it has the type hints and the docstring."""
    while isinstance(fn, functools.partial) or hasattr(fn, "__wrapped__"):
        fn = fn.func if isinstance(fn, functools.partial) else inspect.unwrap(fn)
    if isinstance(fn, type) or inspect.isroutine(fn):
        return fn
    return type(fn).__call__


def name_of(fn: Callable[..., Any]) -> str:
    """Return the name by which a callable is known unless it is given another one."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return str(getattr(fn, "__name__", type(fn).__name__))
