"""The stand-in for Mistral's API, and the behaviour of its model in the demonstration."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

from outlast.cli.demo.cloud import Cloud
from outlast.testing.mistral_server import (
    Call,
    Fault,
    HandOff,
    Hang,
    MistralServer,
    ModelPrompt,
    Reply,
    Say,
)

THINKING_SECONDS = 0.2
"""The time that an answer takes: a real model takes longer, and without a pause nobody could follow."""

TURNS_BEFORE_THE_KILL = 2


class StandIn(Cloud):
    """A server of our own on loopback, which holds back the answer that the kill must interrupt.

    It holds the answer when it is ready and before a byte of it is sent: the model has been paid, and only
    the worker that asked does not know.
    """

    description = "a stand-in for Mistral's API on this machine (set MISTRAL_API_KEY to use Mistral's own)"

    def __init__(self, server: MistralServer, model: DealModel) -> None:
        self._server = server
        self._hang = Hang("answer")
        # The first turn starts the conversation, and each further one appends to it.
        skip = TURNS_BEFORE_THE_KILL - 1
        server.faults.add(Fault(self._hang, method="POST", path="/v1/conversations/*", skip=skip))
        self.environment = {"MISTRAL_API_KEY": server.api_key, "MISTRAL_SERVER_URL": server.url}
        self.questions = model.questions

    async def in_the_middle(self) -> None:
        await self._hang.reached()

    def go_on(self) -> None:
        self._hang.release()


@contextlib.contextmanager
def stand_in() -> Iterator[Cloud]:
    """Serve during the block."""
    model = DealModel()
    with MistralServer(model) as server:
        yield StandIn(server, model)
        server.raise_errors()


class DealModel:
    """Plays the three agents; each goes on from the entries of the conversation so far."""

    def __init__(self) -> None:
        self.questions: Counter[tuple[str | None, int]] = Counter()
        """The number of times that each question was asked, by agent and length of the conversation."""

    async def __call__(self, call: ModelPrompt) -> Reply:
        self.questions[call.agent, len(call.entries)] += 1
        await asyncio.sleep(THINKING_SECONDS)
        done = {entry["name"] for entry in call.entries if entry["type"] == "function.call"}
        match call.agent:
            case "risk-agent":
                return _risk(done)
            case "compliance-agent":
                return _compliance(done)
            case _:
                return _coordinator(done)


def _coordinator(done: set[str]) -> Reply:
    if "open_deal_file" not in done:
        return [Call("open_deal_file", {"company": "Northwind"})]
    if "screen_sanctions" not in done:
        return [HandOff("risk-agent")]
    if "send_report" not in done:
        return [Call("send_report", {"recipient": "the board", "summary": "Risk 37.5; filing needed."})]
    return [
        Say(
            "The acquisition of Northwind has a risk score of 37.5 of 100 at a policy rate of 2.15 %. "
            "Nobody is sanctioned; a French merger control filing is needed first."
        )
    ]


def _risk(done: set[str]) -> Reply:
    if "calculate_risk_score" in done:
        return [HandOff("compliance-agent")]
    return [
        Call("fetch_interest_rate", {"country": "FR"}),
        Call("calculate_risk_score", {"deal_type": "acquisition", "amount": 2_500_000}),
    ]


def _compliance(done: set[str]) -> Reply:
    if "check_regulations" in done:
        return [HandOff("deal-coordinator")]
    return [
        Call("screen_sanctions", {"company": "Northwind"}),
        Call("check_regulations", {"deal_type": "acquisition", "country": "FR"}),
    ]
