"""The contract's workflows that answer updates."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from outlast.runtime.definitions import workflow
from outlast.testing.contracts.durability.activities import fail_once, pass_gate, record


class Overdrawn(Exception):
    """An error that this library does not know."""


@dataclass
class Receipt:
    """A value of a user's own type."""

    what: str
    balance: int


@workflow.define(name="contract.account")
class AccountWithUpdates:
    """Keeps a balance that updates change, until it is closed."""

    def __init__(self) -> None:
        self.balance = 0
        self.closed = False

    @workflow.entrypoint
    async def run(self, waits_for_handlers: bool = False) -> int:
        await workflow.wait_condition(lambda: self.closed)
        if waits_for_handlers:
            await workflow.wait_condition(workflow.all_handlers_finished)
        return self.balance

    @workflow.update
    def deposit(self, amount: int, factor: int = 1) -> Receipt:
        self.balance += factor * amount
        return Receipt("deposit", self.balance)

    @workflow.update("book")
    async def book_with_a_deed(self, what: str, amount: int) -> Receipt:
        what_happened = await record(what)
        self.balance += amount
        return Receipt(what_happened, self.balance)

    @book_with_a_deed.validator
    def check_booking(self, what: str, amount: int) -> None:
        if what == "chance":
            workflow.random()
        if self.balance + amount < 0:
            raise Overdrawn(f"{-self.balance - amount} are missing")

    @workflow.update()
    async def book_behind(self, gate: str, amount: int) -> Receipt:
        what_happened = await pass_gate(gate)
        self.balance += amount
        return Receipt(what_happened, self.balance)

    @workflow.update
    async def wait_for(self, balance: int) -> int:
        await workflow.wait_condition(lambda: self.balance >= balance)
        await asyncio.sleep(0.1)
        return self.balance

    @workflow.update
    async def fail(self, how: str) -> Any:
        match how:
            case "own error":
                raise Overdrawn(how)
            case "activity":
                await fail_once("tried")
            case "cancelled":
                raise asyncio.CancelledError
            case "huge":
                return "x" * 3_000_000
        return object()

    @workflow.update
    def settle(self) -> str:
        self.closed = True
        return f"settled at {self.balance}"

    @workflow.query
    def state(self) -> Receipt:
        return Receipt("closed" if self.closed else "open", self.balance)

    @workflow.query
    def luck(self) -> float:
        return workflow.random().random()

    @workflow.signal
    def close(self) -> None:
        self.closed = True

    @workflow.signal
    def break_down(self) -> None:
        raise ValueError("a handler that fails")


@workflow.define(name="contract.unmakeable_account")
class UnmakeableAccount(AccountWithUpdates):
    """Cannot even be made."""

    def __init__(self) -> None:
        raise RuntimeError("no instance")
