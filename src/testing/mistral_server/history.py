"""The entries of one conversation, and the counts that its rules of order need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from outlast.testing.mistral_server.errors import bad_request, not_found
from outlast.testing.mistral_server.model import Json, words_in
from outlast.testing.mistral_server.ordering import CallLedger, ReplyCounter, is_valid_json


@dataclass(slots=True)
class History:
    """An append-only list of entries.

    A request works on a copy. The copy replaces the original when the request succeeds, so a failed request
    changes nothing. `handed_to` is the agent that the last handoff chose. The counts are kept up to date, so
    that the cost of a turn does not depend on the length of the history.
    """

    entries: list[Json] = field(default_factory=list)
    ledger: CallLedger = field(default_factory=CallLedger)
    replies: ReplyCounter = field(default_factory=ReplyCounter)
    words: int = 0
    unreadable_call: str | None = None
    """The id of a call whose arguments are not JSON; None if there is no such call."""
    handed_to: str | None = None

    @classmethod
    def of(cls, entries: Sequence[Json]) -> History:
        history = cls()
        for entry in entries:
            history.add(entry)
        return history

    def copy(self) -> History:
        return replace(
            self, entries=list(self.entries), ledger=self.ledger.copy(), replies=replace(self.replies)
        )

    def up_to(self, entry_id: str) -> History:
        """Return the history that ends with this entry."""
        for position, entry in enumerate(self.entries):
            if entry["id"] == entry_id:
                return History.of(self.entries[: position + 1])
        raise not_found("Entry", entry_id)

    def add(self, entry: Json) -> None:
        self.entries.append(entry)
        self.ledger.enter(entry)
        self.replies.add(entry)
        self.words += words_in(entry)
        if entry["type"] == "function.call" and not is_valid_json(entry["arguments"]):
            self.unreadable_call = entry["tool_call_id"]
        if entry["type"] == "agent.handoff":
            self.handed_to = entry["next_agent_id"]

    def check_readable(self) -> None:
        """Raise the error of the API if a call has arguments that are not JSON; it accepts no inputs then."""
        if self.unreadable_call is not None:
            raise bad_request(f"Invalid arguments of function call {self.unreadable_call}: not valid JSON")

    def accept(self, inputs: Sequence[Json], confirmations: Mapping[str, str]) -> list[Json]:
        """Add the inputs of a request; return the calls that it allows, with their new status.

        Raises:
            ApiError: an input or a confirmation must not come now.
        """
        self.check_readable()
        confirmed = [self._confirm(call_id, confirmation) for call_id, confirmation in confirmations.items()]
        for entry in inputs:
            self.ledger.check(entry)
            self.add(entry)
        self.ledger.check_all_answered()
        self.check_readable()
        return [call for call in confirmed if call["confirmation_status"] == "allowed"]

    def _confirm(self, call_id: str, confirmation: str) -> Json:
        call = self.ledger.confirm(call_id)
        confirmed = call | {"confirmation_status": {"allow": "allowed", "deny": "denied"}[confirmation]}
        position = max(index for index, entry in enumerate(self.entries) if entry is call)
        self.entries[position] = confirmed
        return confirmed
