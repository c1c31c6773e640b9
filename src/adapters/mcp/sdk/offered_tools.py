"""The tools of a server as the model sees them, and the check of arguments before a call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]  # it ships no types
from jsonschema.validators import extend, validator_for  # type: ignore[import-untyped]  # it ships no types
from mcp.types import Tool
from referencing import Registry
from referencing.exceptions import Unresolvable

from outlast.adapters.mcp.secrets import Redaction
from outlast.adapters.mcp.server import McpServer
from outlast.adapters.mcp.tool_names import ANY_TOOL, tool_name
from outlast.core.agents import Effect, ToolSpec
from outlast.core.errors import DefinitionError, UnknownTool
from outlast.core.json import DEPTH_MAX, JSON, encode
from outlast.ports.tools import misfit

FAULTS_MAX = 10
FAULT_CHARACTERS_MAX = 300
NO_DOCUMENTS: Registry[Any] = Registry()
"""An empty registry of other documents, so that no schema of a server makes this process fetch one."""


@dataclass(frozen=True)
class ListedTool:
    """A tool in the list of a server."""

    remote: str
    """The name that the server uses."""
    spec: ToolSpec

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of `spec`, computed once."""
        return self.spec.fingerprint

    @cached_property
    def _validator(self) -> Any:
        schema = dict(self.spec.parameters)
        known = validator_for(schema)
        return extend(known, _harmless(known))(schema, registry=NO_DOCUMENTS)

    def check(self, arguments: Mapping[str, JSON], known: str | None) -> None:
        """Raise InvalidArguments, with the faults and the current schema, unless the arguments fit the tool.

        This helps the model to try again; the server makes its own check. So the parts of a schema that could
        harm this process are not checked: no document is fetched, and no regular expression is run.
        """
        try:
            json.dumps(dict(arguments), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            # The SDK would fail when it writes this, and end the connection that other calls share.
            raise misfit(
                self.spec, ["a string has half a character (a lone surrogate) in it"], known
            ) from None
        try:
            found = list(islice(self._validator.iter_errors(dict(arguments)), FAULTS_MAX + 1))
        except (Unresolvable, RecursionError):
            return  # The schema refers to another document, or to itself without an end.
        if found:
            faults = [_fault(error) for error in found[:FAULTS_MAX]]
            rest = ["and more"] if len(found) > FAULTS_MAX else []
            raise misfit(self.spec, [*faults, *rest], known)


def _harmless(known: Any) -> dict[str, Any]:
    """Return replacements for the keywords of a validator class that run a regular expression."""
    additional = known.VALIDATORS["additionalProperties"]

    def unless_by_pattern(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterable[Any]:
        return () if "patternProperties" in schema else additional(validator, allowed, instance, schema)

    silent = dict.fromkeys(("pattern", "patternProperties", "unevaluatedProperties"), lambda *_: ())
    return {**silent, "additionalProperties": unless_by_pattern}


class OfferedTools:
    """The tools of a server that its configuration offers to models."""

    def __init__(self, server: McpServer, tools: Sequence[Tool], redaction: Redaction) -> None:
        """Keep the tools that can be offered to a model, without secrets, and leave out the others.

        Raises:
            DefinitionError: two tools would have the same name for models.
        """
        self._server = server.name
        self._tools: dict[str, ListedTool] = {}
        self.left_out: dict[str, str] = {}
        """The tools that cannot be offered, by the names that the server uses, with the reasons."""
        for tool in tools:
            shown = redaction.text(tool.name)
            name = tool_name(server.name, shown)
            if not _is_offered(server, tool.name):
                continue
            problem = _problem(tool)
            if problem is not None:
                self.left_out[shown] = redaction.text(problem)
                continue
            if name in self._tools:
                raise DefinitionError(
                    f"MCP server {server.name!r} has tools {redaction.text(self._tools[name].remote)!r} and "
                    f"{shown!r}, and both would have the name {name!r}; exclude one of them"
                )
            self._tools[name] = ListedTool(tool.name, _spec(server, name, tool, redaction))
        for name in set(server.include or ()) - {tool.name for tool in tools}:
            self.left_out[name] = "the server does not have this tool"

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """The tools, sorted by name."""
        return [self._tools[name].spec for name in sorted(self._tools)]

    @property
    def effects(self) -> Mapping[str, Effect]:
        """The side effect of each tool."""
        return {name: tool.spec.effect or "once" for name, tool in self._tools.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def __getitem__(self, name: str) -> ListedTool:
        """Return the tool with this name; raise UnknownTool if there is none."""
        if name not in self._tools:
            raise UnknownTool(name, self._server, sorted(self._tools))
        return self._tools[name]


def _is_offered(server: McpServer, tool: str) -> bool:
    return (server.include is None or tool in server.include) and tool not in server.exclude


def _problem(tool: Tool) -> str | None:
    if tool.execution is not None and tool.execution.task_support == "required":
        return "it can only be called as a task, and this client does not support tasks"
    schema = tool.input_schema
    try:
        encode(schema, depth_max=DEPTH_MAX)
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return f"its schema is not valid: {error.message[:FAULT_CHARACTERS_MAX]}"
    except (ValueError, TypeError) as error:
        return f"its schema cannot be stored: {error}"
    return None


def _spec(server: McpServer, name: str, tool: Tool, redaction: Redaction) -> ToolSpec:
    return ToolSpec(
        name=name,
        description=redaction.text(tool.description or tool.title or ""),
        parameters=redaction.value(tool.input_schema),
        effect=_effect(server, tool),
        timeout_seconds=server.call_seconds,
    )


def _effect(server: McpServer, tool: Tool) -> Effect:
    for name in (tool.name, ANY_TOOL):
        if name in server.effects:
            return server.effects[name]
    hints = tool.annotations
    if hints is not None and hints.read_only_hint:
        return "read"
    return "idempotent" if hints is not None and hints.idempotent_hint else "once"


def _fault(error: Any) -> str:
    place = ".".join(str(part) for part in error.absolute_path) or "arguments"
    message: str = error.message
    if len(message) > FAULT_CHARACTERS_MAX:
        message = message[:FAULT_CHARACTERS_MAX] + "…"
    return f"{place}: {message}"
