"""Builds a whole reply from the events of a stream, without I/O. A stream that was cut is never a reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.adapters.mistral.api_errors import of_event, readable
from outlast.core.errors import MalformedReply, ModelUnreachable

Wire = dict[str, Any]

_STARTED = "conversation.response.started"
_DONE = "conversation.response.done"
_ERROR = "conversation.response.error"


class Content:
    """The content of one message, built from texts and chunks in the order in which they come."""

    def __init__(self) -> None:
        self._chunks: list[Wire] = []
        self._index: Any = None

    def add(self, piece: Any, index: Any = None) -> None:
        """Add a text, a chunk, or a list of them. A new `index`, if the API gives one, begins a new chunk."""
        if isinstance(piece, list):
            for one in piece:
                self.add(one, index)
            return
        chunk: Any = {"type": "text", "text": piece} if isinstance(piece, str) else piece
        if not isinstance(chunk, Mapping):
            raise MalformedReply(f"a stream has a {type(chunk).__name__} in place of a chunk")
        is_next = index is not None and index != self._index
        self._index = index
        last = self._chunks[-1] if self._chunks and not is_next else None
        if last is not None and chunk.get("type") == last["type"] == "text":
            last["text"] += chunk.get("text") or ""
        elif last is not None and chunk.get("type") == last["type"] == "thinking" and not last.get("closed"):
            thoughts = Content()
            thoughts.add([*last["thinking"], *(chunk.get("thinking") or ())])
            last.update({**chunk, "thinking": thoughts._chunks})
        else:
            self._chunks.append(dict(chunk))

    def wire(self) -> str | list[Wire]:
        """Return the content: a string if all of it is text, or else a list of chunks."""
        if all(chunk.get("type") == "text" for chunk in self._chunks):
            return "".join(chunk.get("text") or "" for chunk in self._chunks)
        return [chunk for chunk in self._chunks if chunk.get("type") != "text" or chunk.get("text")]


def text_in(piece: Any) -> str:
    """Return the text in a string, a text chunk, or a list of them; "" for other chunks."""
    match piece:
        case str():
            return piece
        case list():
            return "".join(map(text_in, piece))
        case {"type": "text", "text": str(text)}:
            return text
    return ""


class ConversationStream:
    """The answer to a streamed start or append.

    It is complete after the `done` event. Entries are in the order of their `output_index`. Events of unknown
    types are ignored.
    """

    def __init__(self) -> None:
        self.conversation_id: str | None = None
        self.usage: Any = None
        self._outputs: dict[int, Wire] = {}
        self._contents: dict[int, Content] = {}
        self._is_done = False

    def take(self, event: Any) -> str:
        """Add one event, and return the text in it.

        Raises:
            ModelUnreachable: the event itself was cut.
            ModelRefused, ModelOverloaded: the event says that the reply has failed.
            MalformedReply: the event does not match the description of the API.
        """
        with readable("an event of the stream"):
            return self._take(event)

    def _take(self, event: Any) -> str:
        if not isinstance(event, Mapping):
            raise ModelUnreachable("the stream was cut inside an event")
        kind = str(event.get("type"))
        if kind == _STARTED:
            conversation_id = event["conversation_id"]
            self.conversation_id = conversation_id if isinstance(conversation_id, str) else None
        elif kind == _DONE:
            self.usage = event.get("usage")
            self._is_done = True
        elif kind == _ERROR:
            code = event.get("code")
            raise of_event(code if isinstance(code, int) else 500, str(event.get("message")))
        else:
            entry_type, _, phase = kind.rpartition(".")
            if entry_type in ("message.output", "function.call", "tool.execution", "agent.handoff"):
                self._add(entry_type, phase, event)
            if entry_type == "message.output":
                return text_in(event.get("content"))
        return ""

    def _add(self, entry_type: str, phase: str, event: Mapping[str, Any]) -> None:
        index = event.get("output_index") or 0
        if not isinstance(index, int):
            raise MalformedReply(f"the output_index of {event['type']!r} is not a whole number")
        new = {
            name: value
            for name, value in event.items()
            if value is not None
            and name not in ("type", "output_index", "content_index", "content", "arguments")
        }
        entry = self._outputs.setdefault(index, {"type": entry_type})
        entry.update({name: value for name, value in new.items() if phase == "done" or name not in entry})
        if isinstance(arguments := event.get("arguments"), str):
            entry["arguments"] = entry.get("arguments", "") + arguments
        elif arguments is not None:
            entry["arguments"] = arguments
        if entry_type == "message.output":
            content = self._contents.setdefault(index, Content())
            content.add(event.get("content") or "", event.get("content_index") or 0)

    def wire(self) -> Wire:
        """Return the answer in the form of an answer without streaming.

        Raises:
            ModelUnreachable: the stream ended too early.
            MalformedReply: the events do not make a valid answer.
        """
        if not self._is_done:
            raise ModelUnreachable("the stream ended before the reply was complete")
        with readable("the stream"):
            for index, content in self._contents.items():
                self._outputs[index]["content"] = content.wire()
        outputs = [self._outputs[index] for index in sorted(self._outputs)]
        return {
            "object": "conversation.response",
            "conversation_id": self.conversation_id,
            "outputs": outputs,
            "usage": self.usage,
        }


class CompletionStream:
    """The answer to a streamed chat completion. It is complete after `[DONE]`."""

    END = "[DONE]"

    def __init__(self) -> None:
        self._content = Content()
        self._calls: dict[int, Wire] = {}
        self._finish_reason: Any = None
        self._usage: Any = None
        self._has_choice = False
        self._is_done = False

    def take(self, event: Any) -> str:
        """Add one event, and return the text in it.

        Raises:
            ModelUnreachable: the event itself was cut.
            ModelRefused, ModelOverloaded: the event says that the reply has failed.
            MalformedReply: the event does not match the description of the API.
        """
        with readable("an event of the stream"):
            return self._take(event)

    def _take(self, event: Any) -> str:
        if event == self.END:
            self._is_done = True
            return ""
        if not isinstance(event, Mapping):
            raise ModelUnreachable("the stream was cut inside an event")
        if isinstance(error := event.get("error"), Mapping):
            code = error.get("code")
            raise of_event(code if isinstance(code, int) else 500, str(error.get("message")))
        self._usage = event.get("usage") or self._usage
        text = ""
        for choice in event.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            self._has_choice = True
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            delta = choice.get("delta") or {}
            if delta.get("content"):
                self._content.add(delta["content"])
                text += text_in(delta["content"])
            for position, call in enumerate(delta.get("tool_calls") or ()):
                self._add_call(call.get("index", position), call)
        return text

    def _add_call(self, index: int, call: Mapping[str, Any]) -> None:
        made = self._calls.setdefault(index, {"id": "", "function": {"name": "", "arguments": ""}})
        made["id"] = made["id"] or call.get("id") or ""
        function = call.get("function") or {}
        made["function"]["name"] = made["function"]["name"] or function.get("name") or ""
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            made["function"]["arguments"] += arguments
        elif arguments is not None:
            made["function"]["arguments"] = arguments

    def wire(self) -> Wire:
        """Return the answer in the form of an answer without streaming.

        Raises:
            ModelUnreachable: the stream ended too early.
            MalformedReply: the events do not make a valid answer.
        """
        if not self._is_done:
            raise ModelUnreachable("the stream ended before the reply was complete")
        with readable("the stream"):
            message = {
                "role": "assistant",
                "content": self._content.wire(),
                "tool_calls": [self._calls[index] for index in sorted(self._calls)],
            }
        choices = [{"index": 0, "finish_reason": self._finish_reason, "message": message}]
        return {
            "object": "chat.completion",
            "choices": choices if self._has_choice else [],
            "usage": self._usage,
        }
