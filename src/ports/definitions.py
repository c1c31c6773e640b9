"""Activities and workflows that users define, as data that every backend can read."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, get_args

from outlast.core.errors import DefinitionError, InvalidArguments
from outlast.core.json import JSON
from outlast.core.retry import RetryPolicy
from outlast.ports.journal import ID_BYTES_MAX, is_id
from outlast.ports.tools import Effect

OnFailure = Literal["fail", "hold"]
"""The answer to a failure of the code: the execution ends, or it is held until somebody resumes it."""
PythonArguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments, to be called as `function(*args, **kwargs)`."""


class CallArguments(NamedTuple):
    """The arguments of one call, as the journal keeps them and as Python takes them."""

    written: dict[str, JSON]
    """By parameter name, without those left to their default."""
    python: PythonArguments
    """The Python values that `written` is read as. They share no object with it or the given values."""


class Signature(Protocol):
    """The parameters and the result of a callable, as a model sees them and as the journal keeps them.

    Three parties meet in a call. A *model* reads `description` and `parameters` and sends arguments; `bind`
    checks them as strictly as it can and reports all faults at once, so that the model can correct them.
    *Python code* calls with Python values; `dump_arguments` writes them as JSON before anything is journaled,
    so that a value that JSON cannot carry is an error at the call. A *later attempt*, perhaps in another
    process with newer code, loads the journaled arguments with `load_arguments`.

    Both ways into a call, `bind` and `dump_call`, also give the Python values, as they would be read from the
    journal. The first attempt takes these, so that arguments are validated once; later attempts load them
    from the journal, because the first one may have changed them.

    What goes in comes out: for values that were accepted, `load_arguments(dump_arguments(...))` and
    `load_result(dump_result(...))` give equal values of the annotated types.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name by which the callable is known; errors use it."""

    @property
    @abstractmethod
    def python(self) -> inspect.Signature:
        """The parameters as Python has them, without those that a `functools.partial` has bound."""

    @property
    @abstractmethod
    def description(self) -> str:
        """The text that explains the callable to a model: its docstring up to the parameters."""

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, JSON]:
        """The JSON schema of the arguments, an object; raises `DefinitionError` if a hint has no schema."""

    @abstractmethod
    def bind(self, arguments: Mapping[str, Any]) -> CallArguments:
        """Return the arguments of the call that a model asks for.

        Raises:
            InvalidArguments: they do not fit `parameters`; it lists every fault.
        """

    @abstractmethod
    def dump_call(self, /, *args: Any, **kwargs: Any) -> CallArguments:
        """Return the arguments of a call from Python code; raises what `dump_arguments` raises."""

    @abstractmethod
    def dump_arguments(self, /, *args: Any, **kwargs: Any) -> dict[str, JSON]:
        """Return the arguments of a call as JSON, by parameter name, without those left to their default.

        Raises:
            TypeError: the callable does not take these arguments.
            Unserialisable: a value is not of its parameter's type, or JSON cannot carry it.
        """

    @abstractmethod
    def load_arguments(self, arguments: Mapping[str, JSON]) -> PythonArguments:
        """Return the positional and named Python arguments that `dump_arguments` wrote.

        Raises:
            DefinitionError: they do not fit any more, because the callable was changed.
        """

    @abstractmethod
    def dump_result(self, value: Any) -> JSON:
        """Return a result as JSON; raises `Unserialisable` if it is not of the annotated type."""

    @abstractmethod
    def load_result(self, value: JSON) -> Any:
        """Return the result that `dump_result` wrote; raises `DefinitionError` if it no longer fits."""

    @abstractmethod
    def faults_in_arguments(self, arguments: Mapping[str, JSON]) -> Sequence[str]:
        """Return what is wrong with arguments that somebody wrote by hand; nothing if they can be loaded."""

    @abstractmethod
    def faults_in_result(self, value: JSON) -> Sequence[str]:
        """Return what is wrong with a result that somebody wrote by hand; nothing if it can be loaded."""


Approval = bool | Callable[..., bool]
"""True if a person must allow each call that a model makes; or a function that decides by the arguments (a
dict), and perhaps by the `RunContext`."""


@dataclass(frozen=True, slots=True)
class ActivityOptions:
    """The options for the attempts at an activity. Times are in seconds."""

    start_to_close_timeout: float = 300.0
    heartbeat_timeout: float | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    effect: Effect = "idempotent"
    requires_approval: Approval = False
    local: bool = False
    """True if it may run where the workflow runs, recorded with what follows, where that is cheaper."""


@dataclass(frozen=True, slots=True)
class ActivityDefinition:
    """A function whose result is journaled."""

    name: str
    fn: Callable[..., Any]
    is_async: bool
    signature: Signature
    options: ActivityOptions

    def __post_init__(self) -> None:
        _check_name("an activity", self.name)


@dataclass(frozen=True, slots=True)
class HandlerDefinition:
    """A signal, query or update handler of a workflow; methods are looked up on the workflow's instance."""

    name: str
    method: str
    signature: Signature
    validator: str | None = None
    """For an update: the method that raises if the update is not accepted."""

    def __post_init__(self) -> None:
        _check_name("a handler", self.name)


@dataclass(frozen=True, slots=True)
class WorkflowDefinition:
    """A class whose entrypoint is run durably."""

    name: str
    cls: type[Any]
    entrypoint: str
    signature: Signature
    signals: Mapping[str, HandlerDefinition] = field(default_factory=dict)
    queries: Mapping[str, HandlerDefinition] = field(default_factory=dict)
    updates: Mapping[str, HandlerDefinition] = field(default_factory=dict)
    keep_seconds: float | None = None
    on_failure: OnFailure = "fail"

    def __post_init__(self) -> None:
        _check_name("a workflow", self.name)
        if self.on_failure not in get_args(OnFailure):
            raise DefinitionError(
                f'on_failure of workflow {self.name!r} is "fail" or "hold", not {self.on_failure!r}'
            )


START_OPTIONS = frozenset({"id", "task_queue", "tags", "backend"})
"""The options with which an execution is started, beside the arguments of its entrypoint."""
UPDATE_OPTIONS = frozenset({"id"})
"""The options with which an update is sent, beside the arguments of its handler."""


def check_reachable(what: str, signature: Signature, options: Collection[str]) -> None:
    """Refuse parameters that no caller could reach, since the caller's `options` have their names.

    Raises:
        DefinitionError: there is one that can be given only by name.
    """
    for name, parameter in signature.python.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and name in options:
            raise DefinitionError(
                f"{what} has a parameter {name!r} that can be given only by name, and its callers have an "
                f"option {name!r}: rename the parameter, or let it be given by position"
            )


def check_options(what: str, signature: Signature, args: Sequence[Any], **options: Any) -> None:
    """Refuse a call in which an option might be meant for the parameter of the same name.

    Options go before parameters, so a parameter with such a name must be given by position.

    Raises:
        InvalidArguments: an option is given (it is not None), and the parameter of its name is not.
    """
    named = [
        one.name for one in signature.python.parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    first = sum(one.kind is one.POSITIONAL_ONLY for one in signature.python.parameters.values())
    for name in named[max(len(args) - first, 0) :]:
        if options.get(name) is not None:
            raise InvalidArguments(
                what,
                [f"{name} is an option of the call, and a parameter too: give the parameter by position"],
            )


def _check_name(what: str, name: str) -> None:
    """Raise DefinitionError unless every backend can know a definition by `name`."""
    given: Any = name
    if not isinstance(given, str) or not is_id(given):
        raise DefinitionError(
            f"{name!r} cannot be the name of {what}: give it 1 to {ID_BYTES_MAX} bytes of text without "
            "control characters"
        )
