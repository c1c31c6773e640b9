"""The names that the pages use and do not define: what a reader has at hand when a page shows a few lines.

Nothing here runs. A name is declared with the type that it has for a reader, or imported from where it is.
"""

from __future__ import annotations

import asyncio as asyncio
import dataclasses as dataclasses
import os as os
from collections.abc import AsyncIterator as AsyncIterator
from dataclasses import dataclass
from datetime import timedelta as timedelta
from pathlib import Path as Path
from re import Pattern
from typing import Any as Any
from typing import Self

import pytest as pytest
import temporalio as temporalio
from temporalio.client import Client as Client
from temporalio.client import Interceptor
from temporalio.converter import ExternalStorage as ExternalStorage
from temporalio.converter import PayloadCodec, StorageDriver
from temporalio.worker import Worker as Worker

import outlast as outlast
import outlast.testing
from outlast import connect as connect
from outlast import workflow as workflow
from outlast.ports.tools import ToolSource

@dataclass
class Customer:
    name: str
    shop: str

@dataclass
class Account:
    iban: str

@dataclass
class Order:
    id: str

class FakePool:
    async def fetchval(self, query: str, *args: object) -> str: ...

class asyncpg:
    """What the pages use of the driver of that name, which is not installed here."""

    class Pool:
        async def fetchval(self, query: str, *args: object) -> str: ...
        async def __aenter__(self) -> Self: ...
        async def __aexit__(self, *args: object) -> None: ...

    @staticmethod
    def create_pool(dsn: str) -> Pool: ...

@outlast.workflow.define(name="booking")
class Booking:
    @outlast.workflow.entrypoint
    async def run(self, seat: str) -> str: ...

@outlast.workflow.define(name="research")
class Research:
    @outlast.workflow.entrypoint
    async def run(self, subject: str) -> str: ...
    @outlast.workflow.signal
    def hurry(self, by: str) -> None: ...

@outlast.workflow.define(name="deal_analysis")
class DealAnalysis:
    @outlast.workflow.entrypoint
    async def run(self, deal_request: str) -> dict[str, Any]: ...

class Deals(DealAnalysis):
    """The same, under the name of another page."""

DealAnalysisWorkflow = DealAnalysis

def Encryption(keys: object) -> PayloadCodec: ...

class Railway:
    async def book(self, train: str, seat: int, *, key: str) -> str: ...

class Payments:
    async def charge(self, order: str, amount: float, *, idempotency_key: str) -> str: ...

class TracingInterceptor(Interceptor): ...

@outlast.activity()
async def greet(name: str) -> None: ...
@outlast.activity()
async def check(order: Order) -> None: ...
@outlast.activity()
async def check_limits(order: Order) -> None: ...
@outlast.activity()
async def search(query: str) -> str: ...
@outlast.activity()
async def look_up(number: str) -> str: ...
@outlast.activity()
async def transfer(to: str, amount: float) -> str: ...

CARD: Pattern[str]
HOURS: dict[str, dict[str, str]]
agent: outlast.Agent
backend: outlast.Backend
bank_server: ToolSource
crm_server: ToolSource
customer: Customer
driver: StorageDriver
execution: outlast.Execution[Any]
forever: asyncio.Future[None]
helper: outlast.Agent
keys: object
opened: outlast.Backend
order: Order
payments: Payments
railway: Railway
session: outlast.RemoteSession
specialist: outlast.Agent
stacks: dict[str, str]
subjects: list[str]
two_hundred_tools: list[Any]
url: str
writer: outlast.Agent
