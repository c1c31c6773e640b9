"""Translates between our entries and the requests and replies of chat completions, without I/O.

`messages` has the conversation in a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outlast.adapters.mistral.api_errors import error_in, readable
from outlast.adapters.mistral.definitions import completion_args, function_tools, handoff_tools
from outlast.adapters.mistral.messages import messages_of
from outlast.adapters.mistral.recent_conversations import RecentConversations
from outlast.adapters.mistral.streams import REASONING
from outlast.adapters.mistral.wire import FIELD, Written, plain, usage_of
from outlast.core.agents import TOOL_CHOICES, AgentGraph, AgentSpec
from outlast.core.entries import (
    Entry,
    entries,
)
from outlast.core.errors import MalformedReply, ModelOverloaded
from outlast.core.json import encode
from outlast.ports.llm import Cut, ModelReply

Wire = dict[str, Any]

_CUT: dict[str, Cut] = {
    **dict.fromkeys(("length", "model_length", "max_tokens", "max_output_tokens"), "length"),
    **dict.fromkeys(("content_filter", "safety", "recitation", "prohibited_content"), "content_filter"),
}
"""The reason why a reply was cut, by its `finish_reason`."""
_WHY_CUT: dict[Cut, str] = {
    "length": "it was cut at the token limit",
    "content_filter": "it was cut by the content filter of the server",
}
_STOPPED = frozenset({"error", "abort", "aborted", "cancelled", "insufficient_system_resource"})
"""Values of `finish_reason` of a reply that the server did not finish."""


def request_of(
    graph: AgentGraph,
    active: str,
    conversation: Sequence[Entry],
    *,
    instructions: str | None = None,
    choice: str | None = None,
    is_mistrals_own: bool = False,
    recent: RecentConversations | None = None,
) -> Wire:
    """Return the body of a completion request for the active agent, without `stream`.

    `instructions` stand in the place of the agent's own, and `choice` in that of its tool choice.
    `is_mistrals_own` is True for Mistral's server: it refuses messages with fields for reasoning. With
    `recent` conversations, the messages are `Written` already.
    """
    agent = graph[active]
    prompt = agent.instructions if instructions is None else instructions
    system = [{"role": "system", "content": prompt}] if prompt else []
    tools = function_tools([*agent.tools, *handoff_tools(graph, active)])
    body: Wire = {"model": agent.model}
    if recent is None:
        body["messages"] = [*system, *messages_of(conversation, not is_mistrals_own)]
    else:
        body["messages"] = recent.written(system, conversation, not is_mistrals_own)
    arguments = completion_args(agent)
    if tools:
        body["tools"] = tools
        arguments |= _tool_options(agent, tools, choice, is_mistrals_own)
    elif agent.tool_choice is not None:
        arguments.pop("tool_choice", None)
    body |= arguments
    return {
        name: value if isinstance(value, Written) else plain(value)
        for name, value in body.items()
        if value is not None
    }


def _tool_options(agent: AgentSpec, tools: Sequence[Wire], choice: str | None, is_mistrals_own: bool) -> Wire:
    """Return how the model chooses among tools. Servers refuse these options in a request without tools."""
    options: Wire = {}
    if choice == "any" and not is_mistrals_own:
        choice = "required"  # Other servers do not know the other word for it.
    if choice in TOOL_CHOICES:
        options["tool_choice"] = choice
    elif any(tool["function"]["name"] == choice for tool in tools):
        options["tool_choice"] = {"type": "function", "function": {"name": choice}}
    if agent.parallel_tool_calls is not None:
        options["parallel_tool_calls"] = agent.parallel_tool_calls
    return options


def reply_of(completion: Any) -> ModelReply:
    """Return the first choice of a completion as a reply, with warnings if it was cut or is a refusal.

    Raises:
        MalformedReply: the message is missing, does not match the API, or was cut inside its tool calls.
        ModelRefused, ModelOverloaded: the completion reports an error.
        ModelOverloaded: the server stopped while it was generating.
    """
    entries = entries_of(completion)
    choice = completion["choices"][0]
    cut = _cut_of(choice.get("finish_reason"))
    warnings = [] if cut is None else [f"{_WHY_CUT[cut]} (finish_reason {choice['finish_reason']!r})"]
    if _refusal_in(choice["message"]):
        warnings.append("the model refused to answer")
    return ModelReply(
        entries=entries, usage=usage_of(completion.get("usage")), cut=cut, warnings=tuple(warnings)
    )


def entries_of(completion: Any) -> tuple[Entry, ...]:
    """Return the first choice of a completion as entries: its reasoning and text, then its calls.

    Raises what `reply_of` raises.
    """
    with readable("the answer"):
        if (error := error_in(completion, "choices")) is not None:
            raise error
        choices = completion.get("choices")
        if not choices:
            raise MalformedReply("it has no choices")
        if (error := error_in(choices[0])) is not None:
            raise error
        message, finish_reason = choices[0]["message"], choices[0].get("finish_reason")
        calls = message.get("tool_calls") or []
        if _plain_reason(finish_reason) in _STOPPED:
            raise ModelOverloaded(500, "the server stopped while it was generating")
        cut = _cut_of(finish_reason)
        if cut is not None and calls:
            advice = "; raise max_tokens" if cut == "length" else ""
            raise MalformedReply(f"{_WHY_CUT[cut]} inside its tool calls{advice}")
        content = _content_of(message)
        texts = [{"type": "message.output", "content": content}] if content or not calls else []
        return entries.validate_python((*texts, *(_call(call) for call in calls)))


def _cut_of(finish_reason: Any) -> Cut | None:
    """Return why a reply ends early; None if it is whole."""
    return _CUT.get(_plain_reason(finish_reason))


def _plain_reason(finish_reason: Any) -> str:
    return finish_reason.lower() if isinstance(finish_reason, str) else ""


def _content_of(message: Wire) -> Any:
    """Return the content of a message, with a refusal as text, and reasoning in its own field as thinking."""
    content: Any = message.get("content") or ""
    refusal = _refusal_in(message)
    if refusal:
        content = refusal if not content else [*_chunks_of(content), {"type": "text", "text": refusal}]
    for field in REASONING:
        reasoning = message.get(field)
        if reasoning and isinstance(reasoning, str):
            thoughts = [{"type": "text", "text": reasoning}]
            thinking = {"type": "thinking", "thinking": thoughts, FIELD: field}
            return [thinking, *_chunks_of(content)]
    return content


def _refusal_in(message: Wire) -> str:
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def _chunks_of(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)


def _call(call: Any) -> Wire:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    identifier = call.get("id")
    return {
        "type": "function.call",
        # Mistral's SDK writes "null" for a missing id. The core makes an id for both cases.
        "tool_call_id": identifier if identifier and identifier != "null" else "",
        "name": function.get("name"),
        "arguments": encode(arguments).decode() if isinstance(arguments, dict) else arguments or "",
    }
