"""The entries of one conversation, with what its rules need to know about them kept up to date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from outlast.testing.mistral_server.errors import bad_request, not_found
from outlast.testing.mistral_server.model import Json, words_in
from outlast.testing.mistral_server.ordering import CallLedger, ReplyCounter, is_valid_json


@dataclass(slots=True)
class History:
    """An append-only list of entries.

    A request works on a copy, and the copy takes the place of the original when the request succeeds: so a
    request that fails leaves nothing behind. `handed_to` is the agent that the last handoff chose. The counts
    make one more turn cost the same however long the history is.
    """

    entries: list[Json] = field(default_factory=list)
    ledger: CallLedger = field(default_factory=CallLedger)
    replies: ReplyCounter = field(default_factory=ReplyCounter)
    words: int = 0
    poisoned_by: str | None = None
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
        self.replies.see(entry)
        self.words += words_in(entry)
        if entry["type"] == "function.call" and not is_valid_json(entry["arguments"]):
            self.poisoned_by = entry["tool_call_id"]
        if entry["type"] == "agent.handoff":
            self.handed_to = entry["next_agent_id"]

    def check_not_poisoned(self) -> None:
        """Refuse a conversation with a call whose arguments are not JSON: it takes no more inputs."""
        if self.poisoned_by is not None:
            raise bad_request(f"Invalid arguments of function call {self.poisoned_by}: not valid JSON")

    def accept(self, inputs: Sequence[Json], confirmations: Mapping[str, str]) -> list[Json]:
        """Add what a request brought, or raise the API's refusal at the first thing that is out of order.

        Returns the calls that were allowed, as they now stand.
        """
        self.check_not_poisoned()
        confirmed = [self._confirm(call_id, confirmation) for call_id, confirmation in confirmations.items()]
        for entry in inputs:
            self.ledger.check(entry)
            self.add(entry)
        self.ledger.check_all_answered()
        self.check_not_poisoned()
        return [call for call in confirmed if call["confirmation_status"] == "allowed"]

    def _confirm(self, call_id: str, confirmation: str) -> Json:
        call = self.ledger.confirm(call_id)
        confirmed = call | {"confirmation_status": {"allow": "allowed", "deny": "denied"}[confirmation]}
        position = max(index for index, entry in enumerate(self.entries) if entry is call)
        self.entries[position] = confirmed
        return confirmed
