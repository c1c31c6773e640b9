"""Builds a whole reply from the events of a stream, without I/O. A stream that was cut is never a reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outlast.adapters.mistral.api_errors import error_in, readable
from outlast.core.errors import MalformedReply, ModelUnreachable
from outlast.core.replies import parsed_arguments

Wire = dict[str, Any]

REASONING = ("reasoning_content", "reasoning")
"""The fields of a message in which servers put the reasoning of a model, if it is not in its content."""

_STARTED = "conversation.response.started"
_DONE = "conversation.response.done"
_ENTRIES = frozenset({"message.output", "function.call", "tool.execution", "agent.handoff"})


class Content:
    """The content of one message, built from texts and chunks in the order in which they come."""

    def __init__(self) -> None:
        self._chunks: list[Wire] = []
        self._index: Any = None

    @property
    def is_empty(self) -> bool:
        """True if nothing was added."""
        return not self._chunks

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

    @property
    def is_done(self) -> bool:
        """True if the server has said that the stream ends here."""
        return self._is_done

    @property
    def has_begun(self) -> bool:
        """True if a part of the reply has come, and not only the news that the server has the request."""
        return self._is_done or bool(self._outputs)

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
        else:
            entry_type, _, phase = kind.rpartition(".")
            if entry_type in _ENTRIES:
                self._add(entry_type, phase, event)
            elif (error := error_in(event, "type")) is not None:
                raise error
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
    """The answer to a streamed chat completion. It is complete after a `finish_reason`, or after `[DONE]`."""

    END = "[DONE]"

    def __init__(self) -> None:
        self._content = Content()
        self._calls = _Calls()
        self._others: dict[str, list[str]] = {name: [] for name in ("refusal", *REASONING)}
        """Other texts of the message, by the name of their field."""
        self._finish_reason: Any = None
        self._usage: Any = None
        self._has_choice = False
        self._is_done = False

    @property
    def is_done(self) -> bool:
        """True if the server has said that the stream ends here."""
        return self._is_done

    @property
    def has_begun(self) -> bool:
        """True if a part of the reply has come, and not only an empty message."""
        texts = any(any(pieces) for pieces in self._others.values())
        return self.is_whole or not self._content.is_empty or self._calls.have_begun or texts

    @property
    def is_whole(self) -> bool:
        """True if the reply is complete, though usage may follow."""
        return self._is_done or bool(self._finish_reason)

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
        if isinstance(event, str) and (self._is_done or not event.strip()):
            return ""
        if (error := error_in(event, "choices", "usage")) is not None:
            raise error
        if not isinstance(event, Mapping):
            raise ModelUnreachable("the stream was cut inside an event")
        self._usage = event.get("usage") or self._usage
        text = ""
        for choice in event.get("choices") or ():
            if (choice.get("index") or 0) != 0:
                continue
            if (error := error_in(choice)) is not None:
                raise error
            self._has_choice = True
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            delta = choice.get("delta") or {}
            if delta.get("content"):
                self._content.add(delta["content"])
                text += text_in(delta["content"])
            for name, pieces in self._others.items():
                if isinstance(piece := delta.get(name), str):
                    pieces.append(piece)
            self._calls.add(delta.get("tool_calls") or ())
        return text

    def wire(self) -> Wire:
        """Return the answer in the form of an answer without streaming.

        Raises:
            ModelUnreachable: the stream ended too early.
            MalformedReply: the events do not make a valid answer.
        """
        if not self.is_whole:
            raise ModelUnreachable("the stream ended before the reply was complete")
        with readable("the stream"):
            message = {
                "role": "assistant",
                "content": self._content.wire(),
                "tool_calls": self._calls.wire(),
                **{name: "".join(pieces) for name, pieces in self._others.items() if pieces},
            }
        choices = [{"index": 0, "finish_reason": self._finish_reason, "message": message}]
        return {
            "object": "chat.completion",
            "choices": choices if self._has_choice else [],
            "usage": self._usage,
        }


class _Calls:
    """The tool calls of a stream, from their pieces.

    A piece belongs to the call with its id; if it has no id, to the call with its index. Servers differ: some
    give every call the index 0 or no index, some repeat the name or give each piece another id, and some give
    several calls the same id. So a piece with a name that follows a call with whole arguments begins another
    call.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    @property
    def have_begun(self) -> bool:
        """True if there is any."""
        return bool(self._calls)

    def add(self, pieces: Sequence[Mapping[str, Any]]) -> None:
        """Add the pieces of one event, in order."""
        begun = len(self._calls)
        for position, piece in enumerate(pieces):
            function = piece.get("function") or {}
            self._call_of(piece, function, begun, position - len(pieces)).add(piece, function)

    def _call_of(
        self, piece: Mapping[str, Any], function: Mapping[str, Any], begun: int, place: int
    ) -> _Call:
        """Return the call of a piece; a new one if it begins one.

        `begun` is how many calls had begun before this event, and `place` counts the pieces of the event from
        its end, with -1 for the last one.
        """
        given, index = _id_of(piece), _index_of(piece)
        calls = [call for call in self._calls if index is None or call.index in (index, None)]
        last = calls[-1] if calls else None
        if given:
            known = next((call for call in reversed(calls) if call.id == given), None)
            if known is not None:
                return known
            # A new id: another call, unless it is a late id, or another id for a piece without a name.
            if last is not None and index is not None and last.index == index:
                is_late_id = not last.id and not last.begins_another(function)
                if is_late_id or not function.get("name"):
                    return last
            return self._new(given, index)
        if index is not None:
            same = next((call for call in reversed(self._calls) if call.index == index), None)
            if same is None or same.begins_another(function):
                return self._new(given, index)
            return same
        is_next = bool(function.get("name")) and len(self._calls) > begun
        if last is None or last.begins_another(function) or is_next:
            return self._new(given, index)
        return self._calls[place] if -place <= len(self._calls) else last

    def _new(self, given: str, index: int | None) -> _Call:
        self._calls.append(call := _Call(given, index))
        return call

    def wire(self) -> list[Wire]:
        """Return the calls in the order of their indices, or else in the order in which they began."""
        indices = [call.index for call in self._calls]
        if None not in indices and len(set(indices)) == len(indices):
            return [call.wire() for call in sorted(self._calls, key=lambda call: call.index or 0)]
        return [call.wire() for call in self._calls]


class _Call:
    """One call of a tool, as far as it has come."""

    def __init__(self, given: str, index: int | None) -> None:
        self.id, self.index = given, index
        self._name: Any = ""
        self._arguments: Any = ""

    def add(self, piece: Mapping[str, Any], function: Mapping[str, Any]) -> None:
        self.id = self.id or _id_of(piece)
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(name, str) and isinstance(self._name, str):
            # A name comes before the arguments, whole or in pieces. Some servers repeat it.
            if not self._arguments and name != self._name:
                self._name += name
        elif name is not None:
            self._name = self._name or name
        if isinstance(arguments, str):
            self._arguments += arguments
        elif arguments is not None:
            self._arguments = arguments

    def begins_another(self, function: Mapping[str, Any]) -> bool:
        """Return whether this piece belongs to another call, because this one is whole."""
        if not function.get("name") or not self._arguments:
            return False
        return not isinstance(self._arguments, str) or parsed_arguments(self._arguments) is not None

    def wire(self) -> Wire:
        return {"id": self.id, "function": {"name": self._name, "arguments": self._arguments}}


def _id_of(piece: Mapping[str, Any]) -> str:
    given = piece.get("id")
    # Mistral's SDK writes "null" for a missing id.
    return given if isinstance(given, str) and given != "null" else ""


def _index_of(piece: Mapping[str, Any]) -> int | None:
    index = piece.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else None
