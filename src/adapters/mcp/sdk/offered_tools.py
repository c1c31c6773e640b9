"""The tools of a server as the model sees them, and the checks of their arguments and results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mcp.types import Tool

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.sdk.schema_checks import Checker, Schema, problem_of_schema, values_in
from outlast.adapters.mcp.sdk.tool_list import ToolsRead
from outlast.adapters.mcp.sdk.tool_pages import output_schema_of
from outlast.adapters.mcp.secrets import Redaction
from outlast.adapters.mcp.server import McpServer
from outlast.adapters.mcp.tool_names import ANY_TOOL, tool_name
from outlast.core.agents import Effect, ToolSpec
from outlast.core.errors import DefinitionError, UnknownTool
from outlast.core.json import JSON
from outlast.ports.tools import misfit

KNOWN_MAX = 128
"""The number of tools that an error names."""


@dataclass(frozen=True)
class ListedTool:
    """A tool in the list of a server."""

    remote: str
    """The name that the server uses."""
    spec: ToolSpec
    output_schema: Schema | None

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of `spec`, computed once."""
        return self.spec.fingerprint

    @cached_property
    def _arguments(self) -> Checker:
        return Checker(dict(self.spec.parameters))

    @cached_property
    def _output(self) -> Checker:
        return Checker(self.output_schema or {})

    def check(self, arguments: Mapping[str, JSON], known: str | None) -> None:
        """Raise InvalidArguments, with the faults and the current schema, unless the arguments fit."""
        try:
            json.dumps(dict(arguments), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            # The SDK would fail when it writes this, and end the connection that other calls share.
            raise misfit(
                self.spec, ["a string has half a character (a lone surrogate) in it"], known
            ) from None
        if faults := self._arguments.faults_of(dict(arguments)):
            raise misfit(self.spec, faults, known)

    def fault_of_result(self, structured: JSON) -> str | None:
        """Return why the structured content of a result is not what the server has declared."""
        if self.output_schema is None:
            return None
        if structured is None:
            return f"tool {self.remote!r} has an output schema but did not return structured content"
        faults = self._output.faults_of(structured)
        problem = f"Invalid structured content returned by tool {self.remote!r}: {'; '.join(faults)}"
        return problem if faults else None


class OfferedTools:
    """The tools of a server that its configuration offers to models."""

    def __init__(
        self, server: McpServer, read: ToolsRead, redaction: Redaction, before: OfferedTools | None = None
    ) -> None:
        """Keep the tools that can be offered to a model, without secrets, and leave out the others.

        It takes milliseconds for each tool that is not as it was `before`, so it runs in a thread.

        Raises:
            DefinitionError: two tools of a server that is required would have the same name for models.
        """
        self._server = server.name
        self._tools: dict[str, ListedTool] = {}
        self.left_out = {redaction.text(name): redaction.text(why) for name, why in read.left_out.items()}
        """The tools that cannot be offered, by the names that the server uses, with the reasons."""
        self._found: dict[str, tuple[Tool, ListedTool | str]] = {}
        """Each tool of the list, and what became of it: the tool for models, or why there is none."""
        known = {} if before is None else before._found
        values = 0
        for tool in read.tools:
            values += values_in([tool.input_schema, output_schema_of(tool)])
            if values > limits.LIST_VALUES_MAX:
                self._leave_out(tool, redaction, "the schemas before it have too many values together")
                continue
            tool_before, found = known.get(tool.name, (None, ""))
            if tool != tool_before:
                found = _listed(server, tool, redaction)
            self._found[tool.name] = tool, found
            if isinstance(found, str):
                self._leave_out(tool, redaction, found)
            elif (name := found.spec.name) not in self._tools:
                self._tools[name] = found
            else:
                first, second = redaction.text(self._tools[name].remote), redaction.text(tool.name)
                problem = f"tools {first!r} and {second!r} would both have the name {name!r}"
                if server.required:
                    raise DefinitionError(f"MCP server {server.name!r}: {problem}; exclude one of them")
                self._leave_out(tool, redaction, problem)
        present = {*read.left_out, *(tool.name for tool in read.tools)}
        for name in set(server.include or ()) - present:
            self.left_out[name] = "the server does not have this tool"

    def _leave_out(self, tool: Tool, redaction: Redaction, problem: str) -> None:
        self.left_out[redaction.text(tool.name)] = redaction.text(problem)

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
            known = sorted(self._tools)
            shown = known if len(known) <= KNOWN_MAX else [*known[:KNOWN_MAX], "…"]
            raise UnknownTool(name, self._server, shown)
        return self._tools[name]


def _listed(server: McpServer, tool: Tool, redaction: Redaction) -> ListedTool | str:
    """Return the tool for models, or why there is none."""
    if tool.execution is not None and tool.execution.task_support == "required":
        return "it can only be called as a task, and this client does not support tasks"
    output_schema = output_schema_of(tool)
    if problem := problem_of_schema(tool.input_schema):
        return problem
    if output_schema is not None and (problem := problem_of_schema(output_schema)):
        return f"{problem} (this is about its output)"
    spec = ToolSpec(
        name=tool_name(server.name, redaction.text(tool.name)),
        description=redaction.text(tool.description or tool.title or ""),
        parameters=redaction.value(tool.input_schema),
        effect=_effect(server, tool),
        timeout_seconds=server.call_seconds,
    )
    return ListedTool(tool.name, spec, output_schema)


def _effect(server: McpServer, tool: Tool) -> Effect:
    for name in (tool.name, ANY_TOOL):
        if name in server.effects:
            return server.effects[name]
    hints = tool.annotations
    if hints is not None and hints.read_only_hint:
        return "read"
    return "idempotent" if hints is not None and hints.idempotent_hint else "once"
