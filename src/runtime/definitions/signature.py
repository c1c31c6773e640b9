"""The signature of a callable: the schema that a model sees, and the JSON that the journal keeps."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from inspect import Parameter
from types import CodeType, FrameType
from typing import Any

from pydantic.fields import FieldInfo

from outlast.core.errors import DefinitionError, InvalidArguments, Unserialisable
from outlast.core.json import JSON
from outlast.ports.definitions import CallArguments, PythonArguments
from outlast.runtime.definitions import docstring, json_schema
from outlast.runtime.definitions.callables import innermost, name_of
from outlast.runtime.definitions.codec import Codec, Misfit, render


@dataclass(frozen=True, eq=False)
class CallableSignature:
    """The parameters and the result of one callable, as Python, a model and a journal see them.

    Build it with `Signature.of`. That checks only what is cheap; the type hints are resolved on first use,
    because they may name what is defined later. Read `parameters` to have everything checked.

    If the only parameter is a pydantic model, a dataclass or another type with named fields, a model sees
    those fields as the arguments; the journal keeps every argument by the name of its parameter.

    Code goes on with the value that was read from JSON, even when the value has just been computed. So a
    replay, which has only the JSON, goes on with the same value and type.
    """

    name: str
    function: Callable[..., Any] = field(repr=False)
    python: inspect.Signature = field(repr=False)
    bound_names: frozenset[str] = field(default=frozenset(), repr=False)
    given_description: str | None = field(default=None, repr=False)
    local_hints: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool = True,
    ) -> CallableSignature:
        """Return the signature of a function, bound method, `functools.partial` or callable object.

        Arguments that a `partial` has bound are not in it: neither a model nor the journal sees them.
        With `strict` every parameter must have a type hint; without it, one that has none takes any JSON.

        Raises:
            DefinitionError: when the parameters cannot be named in JSON, or have no type hint.
        """
        function = innermost(fn)
        name = name_of(fn) if name is None else name
        if isinstance(function, type):
            raise DefinitionError(f"{name!r} is a class; write a function that returns an instance")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise DefinitionError(f"{name!r} yields its results one by one; return one value, such as a list")
        try:
            python = inspect.signature(fn)
        except (TypeError, ValueError) as error:
            raise DefinitionError(f"{name!r} has no readable signature; wrap it in a function") from error
        bound = fn.keywords if isinstance(fn, functools.partial) else {}
        parameters = [one for one in python.parameters.values() if one.name not in bound]
        _check(name, parameters, strict)
        return cls(
            name=name,
            function=function,
            python=python.replace(parameters=parameters),
            bound_names=frozenset(
                (_accepted_names(function) | bound.keys()) - {one.name for one in parameters}
            ),
            given_description=description,
            local_hints=_local_hints(function),
        )

    @cached_property
    def description(self) -> str:
        """The description for a model: the given text, or the docstring up to the parameters."""
        return self._docstring.description if self.given_description is None else self.given_description

    @cached_property
    def parameters(self) -> Mapping[str, JSON]:
        """The JSON schema of the arguments, for a model.

        Raises:
            DefinitionError: when a type hint cannot be resolved or has no JSON schema.
        """
        nested = self._schema_by_parameter
        return nested if self._flat is None else json_schema.flattened(nested, self._flat)

    def bind(self, arguments: Mapping[str, Any]) -> CallArguments:
        """Return the arguments of a call for `arguments`, as a model sent them for `parameters`.

        All arguments that this accepts can be journaled too.

        Raises:
            InvalidArguments: the arguments are wrong; one line for each fault, for the model to correct.
        """
        if not isinstance(arguments, Mapping):
            raise InvalidArguments(self.name, [f"expected a JSON object; got {render(arguments)}"])
        written: dict[str, JSON] = {}
        if self._flat is None:
            values, faults = self._load(arguments, written)
        else:
            known = json_schema.property_names(self.parameters)
            closed = self.parameters["additionalProperties"] is False
            faults = [_unknown(one, known) for one in arguments if closed and one not in known]
            values, misfits = self._load({self._flat: arguments}, written)
            faults += misfits
        if faults:
            raise InvalidArguments(self.name, faults)
        return CallArguments(written, self._placed(values))

    def dump_arguments(self, /, *args: Any, **kwargs: Any) -> dict[str, JSON]:
        """Return the arguments of a call as JSON by parameter name, without those left to their default.

        Raises:
            TypeError: when the callable cannot be called in this way, as a call would raise it.
            Unserialisable: when an argument is not of its parameter's type or cannot be written.
        """
        return self.dump_call(*args, **kwargs).written

    def dump_call(self, /, *args: Any, **kwargs: Any) -> CallArguments:
        """Return the JSON of `dump_arguments`, and the arguments that `load_arguments` makes of it."""
        try:
            bound = self.python.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        rest = self._rest
        named = {name: value for name, value in bound.arguments.items() if name != rest}
        more = bound.arguments.get(rest, {}) if rest is not None else {}
        for clash in more.keys() & (named.keys() | self.bound_names):
            raise Unserialisable(
                f"argument {clash!r} of {self.name!r}",
                type(more[clash]).__name__,
                "its name is taken by a positional-only parameter, or by an argument that is bound already",
            )
        written: dict[str, JSON] = {}
        values: dict[str, Any] = {}
        for name, value in {**named, **more}.items():
            written[name], values[name] = self._dump_argument(name, value)
        return CallArguments(written, self._placed(values))

    def load_arguments(self, arguments: Mapping[str, JSON]) -> PythonArguments:
        """Return the Python arguments that `dump_arguments` wrote.

        Raises:
            DefinitionError: when they do not fit, because the callable was changed since.
        """
        values, faults = self._load(arguments)
        if faults:
            raise self._changed("arguments", faults)
        return self._placed(values)

    def faults_in_arguments(self, arguments: Mapping[str, JSON]) -> Sequence[str]:
        """Return what is wrong with arguments that somebody wrote by hand; nothing if they can be loaded."""
        return self._load(arguments)[1]

    def faults_in_result(self, value: JSON) -> Sequence[str]:
        """Return what is wrong with a result that somebody wrote by hand; nothing if it can be loaded."""
        try:
            self._result.load(value)
        except Misfit as misfit:
            return misfit.faults
        return ()

    def dump_result(self, value: Any) -> JSON:
        """Return a result as JSON: by the return annotation or, without one, by the value's own type.

        Raises:
            Unserialisable: when it is not of the annotated type or cannot be written.
        """
        try:
            return self._result.dump(value)
        except Misfit as misfit:
            raise Unserialisable(
                f"the result of {self.name!r}", type(value).__name__, str(misfit)
            ) from misfit

    def load_result(self, value: JSON) -> Any:
        """Return the typed result that `dump_result` wrote, or JSON as it is without a return annotation.

        Raises:
            DefinitionError: when it does not fit, because the callable was changed since.
        """
        try:
            return self._result.load(value)
        except Misfit as misfit:
            raise self._changed("result", misfit.faults) from misfit

    @cached_property
    def _docstring(self) -> docstring.Docstring:
        return docstring.parse(inspect.getdoc(self.function) or "")

    @cached_property
    def _hints(self) -> Mapping[str, Any]:
        if self.local_hints is not None:
            return self.local_hints
        try:
            return typing.get_type_hints(self.function, include_extras=True)
        except NameError as error:
            raise DefinitionError(
                f"{self.name!r} has a type hint that names {error.name!r}, which is not defined: define it "
                "at the top of the module or before the function; import it outside `if TYPE_CHECKING` too"
            ) from error
        except Exception as error:  # Hints are expressions, and may raise anything.
            raise DefinitionError(f"{self.name!r} has a type hint that cannot be read: {error}") from error

    @cached_property
    def _codecs(self) -> dict[str, Codec]:
        return {
            name: Codec(self._hints.get(name, Any), owner=f"parameter {name!r} of {self.name!r}")
            for name in self.python.parameters
        }

    @cached_property
    def _result(self) -> Codec:
        return Codec(self._hints.get("return", Any), owner=f"the result of {self.name!r}")

    @cached_property
    def _rest(self) -> str | None:
        """The name of the `**kwargs` parameter, if there is one."""
        kinds = {one.kind: one.name for one in self.python.parameters.values()}
        return kinds.get(Parameter.VAR_KEYWORD)

    @cached_property
    def _named(self) -> dict[str, Parameter]:
        return {name: one for name, one in self.python.parameters.items() if name != self._rest}

    @cached_property
    def _schema_by_parameter(self) -> dict[str, JSON]:
        definitions: dict[str, Any] = {}
        schemas: dict[str, Any] = {}
        for name, codec in self._codecs.items():
            schemas[name], own = codec.schema()
            if any(definitions.get(key, one) != one for key, one in own.items()):
                schemas[name], own = codec.schema(prefix=f"{name}.")  # Other classes of the same names.
            definitions |= own
        rest = schemas.pop(self._rest) if self._rest is not None else False
        for name, parameter in self._named.items():
            self._annotate(schemas[name], parameter)
        required = [name for name, one in self._named.items() if one.default is Parameter.empty]
        return {
            "type": "object",
            "properties": schemas,
            **({"required": list[JSON](required)} if required else {}),
            "additionalProperties": rest,
            **({"$defs": definitions} if definitions else {}),
        }

    def _annotate(self, property_schema: dict[str, JSON], parameter: Parameter) -> None:
        codec = self._codecs[parameter.name]
        description = codec.description or self._docstring.parameters.get(parameter.name)
        if description:
            property_schema["description"] = description
        property_schema.pop("default", None)  # Only a default that Python would use is shown.
        if parameter.default is not Parameter.empty:
            # A default that JSON cannot show, such as a sentinel, is left out: the parameter stays optional.
            with suppress(Misfit):
                property_schema["default"] = codec.dump(parameter.default)

    @cached_property
    def _flat(self) -> str | None:
        """The only parameter, if a model should see its fields as the arguments."""
        match list(self.python.parameters.values()):
            case [only] if only.default is Parameter.empty and only.name != self._rest:
                resolved = json_schema.resolved(self._schema_by_parameter, only.name)
                return only.name if resolved.get("type") == "object" and "properties" in resolved else None
        return None

    def _load(
        self, arguments: Mapping[str, Any], written: dict[str, JSON] | None = None
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the values by parameter name, and the faults.

        If a model sent them, `written` is given, and is filled with the JSON that the journal keeps.
        """
        flat = written is not None and self._flat is not None
        values: dict[str, Any] = {}
        faults: list[str] = []
        for name, value in arguments.items():
            codec = self._codec(name)
            if codec is None:
                faults.append(_unknown(name, list(self._named)))
                continue
            at = "" if flat else name if name in self._named else render(name)
            try:
                values[name] = codec.load(value, at=at, by_name=written is None)
            except Misfit as misfit:
                faults += misfit.faults
                continue
            if written is not None:
                try:
                    written[name], values[name] = codec.dump_and_load(values[name])
                except Misfit as misfit:
                    faults.append(f"{at or 'the arguments'}: cannot be written as JSON again ({misfit})")
        faults += [
            f"{name}: missing, and it is required"
            for name, one in self._named.items()
            if name not in arguments and one.default is Parameter.empty
        ]
        return values, faults

    def _placed(self, values: dict[str, Any]) -> PythonArguments:
        positional = [
            values.pop(name, one.default)
            for name, one in self._named.items()
            if one.kind is Parameter.POSITIONAL_ONLY
        ]
        return tuple(positional), values

    def _codec(self, name: str) -> Codec | None:
        if name in self._named:
            return self._codecs[name]
        # Through **kwargs a model could otherwise replace `self`, or an argument that a partial has bound.
        return None if self._rest is None or name in self.bound_names else self._codecs[self._rest]

    def _dump_argument(self, name: str, value: Any) -> tuple[JSON, Any]:
        try:
            return self._codecs[name if name in self._named else self._rest or ""].dump_and_load(value)
        except Misfit as misfit:
            raise Unserialisable(
                f"argument {name!r} of {self.name!r}", type(value).__name__, str(misfit)
            ) from misfit

    def _changed(self, what: str, faults: typing.Iterable[str]) -> DefinitionError:
        return DefinitionError(
            f"the recorded {what} of {self.name!r} cannot be read by its signature ({'; '.join(faults)}), "
            "which was changed since; let it accept the old form as well"
        )


def _accepted_names(function: Callable[..., Any]) -> set[str]:
    """Return the names by which `function` takes an argument, without the bound ones."""
    unbound = getattr(function, "__func__", function)
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {one.name for one in inspect.signature(unbound).parameters.values() if one.kind in by_name}


def _check(name: str, parameters: list[Parameter], strict: bool) -> None:
    for parameter in parameters:
        if parameter.kind is Parameter.VAR_POSITIONAL:
            raise DefinitionError(
                f"{name!r} takes *{parameter.name}, but arguments come by name: "
                f"write `{parameter.name}: list[...]` instead"
            )
        if isinstance(parameter.default, FieldInfo):
            raise DefinitionError(
                f"the default of parameter {parameter.name!r} of {name!r} is a pydantic Field: write "
                f"`{parameter.name}: Annotated[..., Field(...)]`, and after it the default itself"
            )
    bare = [one.name for one in parameters if one.annotation is Parameter.empty]
    if strict and bare:
        method = bare[0] == "self" and parameters[0].name == "self"
        advice = (
            "take the bound method of an instance (`instance.method`), or a function"
            if method
            else f"write `def {name}({', '.join(f'{one}: <type>' for one in bare)})`"
        )
        raise DefinitionError(f"{name!r} has no type hint on {', '.join(map(repr, bare))}: {advice}")


def _local_hints(function: Callable[..., Any]) -> Mapping[str, Any] | None:
    """Return the hints of a function defined in a function that still runs, else None.

    Its hints may name local variables, which are gone when the first call comes.
    """
    code = getattr(function, "__code__", None)
    if code is None or "<locals>" not in function.__qualname__:
        return None
    names: dict[str, Any] = {}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _holds(frame.f_code, code):
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    try:
        return typing.get_type_hints(function, localns=names, include_extras=True)
    except Exception:
        return None  # A hint may name something defined later; faults are raised on first use.


def _holds(outer: CodeType, inner: CodeType) -> bool:
    return any(one is inner or (isinstance(one, CodeType) and _holds(one, inner)) for one in outer.co_consts)


def _unknown(name: str, known: list[str]) -> str:
    return f"there is no argument {render(name)}; " + (
        f"the arguments are: {', '.join(known)}" if known else "it takes no arguments"
    )
