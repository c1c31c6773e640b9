"""A catalogue of tools that a model searches, instead of seeing all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import Parameter
from typing import Any

from outlast.core.agents import TOOL_NAME, ToolSpec
from outlast.core.errors import DefinitionError, UnknownTool
from outlast.core.given_values import check_list, check_number, check_text
from outlast.core.json import JSON
from outlast.core.tool_search import ranked
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolOutput, ToolSource
from outlast.runtime.definitions.callables import is_async
from outlast.runtime.definitions.signature import CallableSignature
from outlast.runtime.definitions.source_tools import is_source

Search = Callable[[str, Sequence[ToolSpec]], Sequence[str]]
"""Returns the names of the tools that a query finds, the best first; a pure function."""

QUERY = "query"
"""The parameter of the tool that searches."""

_DESCRIPTION = (
    "Searches further tools by keywords that say what is to be done. The tools that are found can be called "
    "from the next turn on."
)


@dataclass(frozen=True, kw_only=True)
class ToolIndex:
    """Many tools, of which a model sees one that searches, and those that it has found.

    What was found stays visible to the agent for the rest of the run. The catalogue is journaled once in an
    execution, so that a search finds the same tools in a replay, also after tools were added.

    Args:
        tools: Tools of every kind that an agent may have, also MCP servers, but no built-in tools.
        search: A pure function of the query and the catalogue that returns the names of the tools found, the
            best first. By default, tools are ranked by the words in their names and descriptions.
        name: The name of the tool that searches.
        description: The text that the model reads about it.
        limit: The most tools that one search finds.
    """

    tools: Sequence[Any] = field(kw_only=False)
    search: Search = ranked
    name: str = "search_tools"
    description: str = _DESCRIPTION
    limit: int = 8

    def __post_init__(self) -> None:
        check_text("the name of a tool index", self.name)
        check_text(f"the description of tool index {self.name!r}", self.description, may_be_empty=True)
        check_list(f"tools of tool index {self.name!r}", self.tools)
        search: Any = self.search
        if not callable(search) or is_async(search):
            raise DefinitionError(
                f"the search of tool index {self.name!r} must be a plain function of a query and the tools"
            )
        check_number(f"limit of tool index {self.name!r}", self.limit)
        if not TOOL_NAME.match(self.name):
            raise DefinitionError(
                f"tool index {self.name!r} has a name the model API refuses; use 1 to 64 letters, digits, "
                "'_' or '-'"
            )
        if any(isinstance(tool, ToolIndex) for tool in self.tools):
            raise DefinitionError(f"tool index {self.name!r} has another one in it; put its tools there")

    @property
    def sources(self) -> tuple[ToolSource, ...]:
        """The tool sources in it."""
        return tuple(tool for tool in self.tools if is_source(tool))

    @cached_property
    def signature(self) -> CallableSignature:
        """The parameter of the tool that searches."""
        parameter = Parameter(QUERY, Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
        return CallableSignature(
            name=self.name,
            function=_search,
            python=inspect.Signature([parameter]),
            given_description=self.description,
            local_hints={QUERY: str, "return": str},
        )


def _search(query: str) -> str:
    """Stand for the search in the signature of an index; nobody calls it."""
    raise NotImplementedError


@dataclass(frozen=True)
class BoundIndex:
    """An index with its catalogue."""

    index: ToolIndex
    catalogue: tuple[ToolSpec, ...]

    def found_by(self, query: str) -> list[ToolSpec]:
        """Return the tools that a query finds, the best first, at most as many as the index allows.

        Raises:
            DefinitionError: the search returned something that is not the name of a tool in the catalogue.
        """
        known = {tool.name: tool for tool in self.catalogue}
        names = list(self.index.search(query, self.catalogue))
        for name in names:
            if name not in known:
                raise DefinitionError(
                    f"the search of tool index {self.index.name!r} returned {name!r}, which is not one of "
                    "its tools; return their names"
                )
        return [known[name] for name in dict.fromkeys(names)][: self.index.limit]


@dataclass(frozen=True, eq=False)
class IndexSource(ToolSource):
    """The tools of an index that are in no other source, as a source: it is listed once, and journaled."""

    owner: str
    """The name of the agent that has the index."""
    index: ToolIndex
    specs: tuple[ToolSpec, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IndexSource) and (self.name, self.specs) == (other.name, other.specs)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def name(self) -> str:
        return index_source_name(self.owner, self.index)

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        return self.specs

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        raise UnknownTool(tool, self.name, ())

    def effect(self, tool: str) -> Effect:
        return "read"


def index_source_name(owner: str, index: ToolIndex) -> str:
    """Return the name under which the tools of an agent's index are listed."""
    return f"{owner}/{index.name}"
