"""Chat completions. They have no state: everything is in the request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from outlast.testing.mistral_server.answers import ModelCaller
from outlast.testing.mistral_server.bodies import ChatCompletion
from outlast.testing.mistral_server.identity import Identifiers, StandInClock
from outlast.testing.mistral_server.model import (
    Call,
    Execute,
    Json,
    ModelPrompt,
    Output,
    Say,
    Think,
    text_of,
    words_in,
)
from outlast.testing.mistral_server.ordering import check_messages, replies_in

T = TypeVar("T")

_NOT_ARGUMENTS = frozenset({"model", "messages", "tools", "stream", "n"})


class Chat:
    """Answers `/v1/chat/completions`."""

    def __init__(self, caller: ModelCaller, identifiers: Identifiers, clock: StandInClock) -> None:
        self._caller = caller
        self._identifiers = identifiers
        self._clock = clock

    def check(self, raw: Json) -> None:
        """Raise the error of the API if the messages are in a wrong order."""
        check_messages(raw["messages"])

    async def complete(self, body: ChatCompletion, raw: Json) -> Json:
        """Return the whole completion. The model is called once for each of the `n` choices."""
        prompted = _prompt(body, raw)
        replies = [await self._caller.ask(prompted) for _ in range(body.n or 1)]
        choices = [self._choice(index, reply) for index, reply in enumerate(replies)]
        is_traced = any("messages" in choice for choice in choices)
        prompt = words_in(raw["messages"]) + words_in(raw.get("tools") or [])
        completion = words_in([[_words_of(output) for output in reply] for reply in replies])
        return {
            "id": self._identifiers.completion(),
            "object": "chat.multi_completion" if is_traced else "chat.completion",
            "created": self._clock.seconds(),
            "model": body.model,
            "choices": choices,
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
        }

    def _choice(self, index: int, reply: Sequence[Output]) -> Json:
        """Return one choice: a message, or a list of messages if tools ran on the server."""
        calls = [self._tool_call(number, call) for number, call in enumerate(_of_type(Call, reply))]
        finish_reason = next((say.finish_reason for say in _of_type(Say, reply) if say.finish_reason), None)
        message = {"role": "assistant", "content": _content(reply), "tool_calls": calls or None}
        choice = {"index": index, "finish_reason": finish_reason or ("tool_calls" if calls else "stop")}
        executions = _of_type(Execute, reply)
        if not executions:
            return choice | {"message": message | {"prefix": False}}
        trace: list[Json] = []
        for execute in executions:
            call = self._tool_call(0, Call(execute.tool, execute.arguments))
            result = {"role": "tool", "content": json.dumps(dict(execute.info)), "tool_call_id": call["id"]}
            trace += [{"role": "assistant", "content": "", "tool_calls": [call]}, result]
        return choice | {"messages": [*trace, message]}

    def _tool_call(self, index: int, call: Call) -> Json:
        arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
        identifier = call.call_id or self._identifiers.tool_call("chat")
        function = {"name": call.tool, "arguments": arguments}
        return {"id": identifier, "type": "function", "index": index, "function": function}


def _prompt(body: ChatCompletion, raw: Json) -> ModelPrompt:
    messages = raw["messages"]
    instructions = "\n".join(
        text_of(message["content"]) for message in messages if message["role"] == "system"
    )
    arguments: Mapping[str, Any] = {name: value for name, value in raw.items() if name not in _NOT_ARGUMENTS}
    return ModelPrompt(
        endpoint="chat",
        model=body.model,
        agent=None,
        agent_id=None,
        instructions=instructions or None,
        tools=raw.get("tools") or [],
        entries=tuple(messages),
        completion_args=dict(arguments),
        replies=replies_in(messages),
    )


def _content(reply: Sequence[Output]) -> str | list[Json]:
    """Return the content of a reply: a string if all of it is text, or else a list of chunks."""
    chunks: list[Json] = []
    for output in reply:
        if isinstance(output, Think):
            chunks.append(
                {"type": "thinking", "thinking": [{"type": "text", "text": output.text}], "closed": True}
            )
        elif isinstance(output, Say):
            chunks += _chunks(output.content)
    if all(
        isinstance(output, Say) and isinstance(output.content, str) for output in reply if _is_content(output)
    ):
        return "".join(chunk["text"] for chunk in chunks)
    return chunks


def _chunks(content: str | Sequence[Json]) -> Sequence[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _is_content(output: Output) -> bool:
    return isinstance(output, Say | Think)


def _of_type(kind: type[T], reply: Sequence[Output]) -> list[T]:
    return [output for output in reply if isinstance(output, kind)]


def _words_of(output: Output) -> object:
    match output:
        case Say(content=content):
            return content
        case Think(text=text):
            return text
        case Call(tool=tool, arguments=arguments) | Execute(tool=tool, arguments=arguments):
            return [tool, arguments]
    return None
