"""The two sessions, with the defaults of Mistral's plugin: a tool that fails ends the run."""

from __future__ import annotations

from typing import Any

from outlast.adapters import mistral as own
from outlast.compat.mistral_workflows.refusals import refuse_arguments
from outlast.ports.llm import Session as Session

REFUSED = {
    "system_prompt_agent_handoff": "say in the `instructions=` of the agent when it hands off",
}


class RemoteSession(own.RemoteSession):
    """Mistral's Agents and Conversations API. It takes the options of `outlast.RemoteSession`, too."""

    def __init__(self, raise_on_tool_fail: bool = True, stream: bool = False, **options: Any) -> None:
        _refuse(own.RemoteSession, options)
        super().__init__(raise_on_tool_fail=raise_on_tool_fail, stream=stream, **options)


class LocalSession(own.LocalSession):
    """A server for chat completions. It takes the options of `outlast.LocalSession`, too.

    Built-in tools are an error; the plugin leaves them out and writes a warning.
    """

    def __init__(self, raise_on_tool_fail: bool = True, stream: bool = False, **options: Any) -> None:
        _refuse(own.LocalSession, options)
        super().__init__(raise_on_tool_fail=raise_on_tool_fail, stream=stream, **options)


def _refuse(session: Any, options: dict[str, Any]) -> None:
    unknown = [name for name in options if name not in session.__dataclass_fields__]
    refuse_arguments(f"{session.__name__}()", unknown, REFUSED, session.__dataclass_fields__)
