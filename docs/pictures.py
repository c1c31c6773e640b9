"""Makes the pictures of the inspector that the docs show: `python docs/pictures.py [FOLDER]`.

They come from a real run: that of `outlast demo`, on an SQLite file, whose worker is killed half-way. A few
executions more stand beside it in the list. A browser draws the page, and writes the pictures as WebP.
"""

from __future__ import annotations

import asyncio
import base64
import io
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

import outlast
from outlast.adapters.scripted import call, say
from outlast.cli.demo.stage import perform
from outlast.core.usage import Usage
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.web import inspector

REPOSITORY = Path(__file__).parent.parent
IMAGES = REPOSITORY / "docs" / "images"
sys.path.insert(0, str(REPOSITORY))

from tests.web.browser import opened_browser  # noqa: E402 - found only now
from tests.web.site import listening  # noqa: E402

T = TypeVar("T")

SCALE = 1.5
"""Pixels of a picture for one of the page: a reader may show it larger."""
QUALITY = 0.82
PATIENCE_SECONDS = 60
LEDGER_CLOSED = "2025"


@outlast.activity()
async def read_invoice(number: str) -> dict[str, Any]:
    """Read an invoice.

    Args:
        number: The number of the invoice
    """
    return {"number": number, "supplier": "Northwind", "amount": 1250.0}


@outlast.activity(requires_approval=True)
async def pay_invoice(supplier: str, amount: float, currency: str) -> str:
    """Pay an invoice.

    Args:
        supplier: Who gets the money
        amount: The amount, in this currency
        currency: Three letters, such as EUR
    """
    return f"{amount} {currency} paid to {supplier}"


@outlast.activity(retry_policy_max_attempts=1)
async def book(number: str, ledger: str) -> None:
    """Book an invoice."""
    if ledger == LEDGER_CLOSED:
        raise LookupError(f"ledger {ledger} is closed")


@outlast.activity(retry_policy_initial_interval=timedelta(minutes=1))
async def send_mail(recipient: str) -> None:
    """Send a mail."""
    raise ConnectionError("the mail server refuses the connection")


REPLIES = (
    ModelReply(entries=(call("read_invoice", {"number": "2041"}),)),
    ModelReply(
        entries=(
            say("The invoice fits the order, so it can be paid."),
            call("pay_invoice", {"supplier": "Northwind", "amount": 1250.0, "currency": "EUR"}),
        )
    ),
    ModelReply(entries=(say("The invoice is paid."),)),
)


def clerk(request: ModelRequest) -> ModelReply:
    """Return the reply of the model: it reads an invoice, and asks to pay it."""
    handle: Any = request.handle or {}
    reply = REPLIES[handle.get("replies", {}).get(request.agent, 0)]
    return reply.with_(usage=Usage(prompt_tokens=412, completion_tokens=38, total_tokens=450))


@outlast.workflow.define(name="invoice")
class Invoice:
    """An agent pays an invoice; then it is booked."""

    @outlast.workflow.entrypoint
    async def run(self, number: str, ledger: str) -> str:
        tools = [read_invoice, pay_invoice]
        agent = outlast.Agent(model="mistral-medium-latest", name="invoice-clerk", tools=tools)
        session = outlast.ScriptedSession(clerk)
        result = await outlast.Runner.run(agent, f"Settle invoice {number}.", session=session)
        await book(number, ledger)
        return result.text


@outlast.workflow.define(name="reminder")
class Reminder:
    """Waits for some days; then it sends a mail."""

    @outlast.workflow.entrypoint
    async def run(self, days: float, recipient: str) -> None:
        await asyncio.sleep(days * 86_400)
        await send_mail(recipient)


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Backend]:
    """Yield a backend with a run whose worker was killed, and a few other executions."""
    await perform(folder, Console(file=io.StringIO()))
    async with (
        outlast.connect(f"sqlite:///{folder / 'demo.db'}") as backend,
        backend.worker([Invoice, Reminder], identity="accounts-1:4711"),
    ):
        await asyncio.gather(
            settled(backend, "2038", "2026"), settled(backend, "2039", LEDGER_CLOSED), reminded(backend)
        )
        for number in ("2040", "2041"):
            await asked(backend, number, "2026")
        yield backend


async def asked(backend: Backend, number: str, ledger: str) -> Execution:
    """Return an execution whose agent asks to pay an invoice."""
    tags = {"team": "accounts", "ledger": ledger}
    execution = await backend.start(Invoice, number, ledger, id=f"invoice-{number}", tags=tags)
    await until(execution.pending)
    return execution


async def settled(backend: Backend, number: str, ledger: str) -> None:
    """Return when an invoice is paid, and booked unless its ledger is closed."""
    execution = await asked(backend, number, ledger)
    [waiting] = await execution.pending()
    await execution.decide(waiting.key, "allow", by="grace")
    await ended(execution)


async def reminded(backend: Backend) -> None:
    """Return when there are reminders that wait for one thing each, and one that was cancelled."""
    tags = {"team": "board"}
    await backend.start(Reminder, 30, "board@example.com", id="reminder-board", tags=tags)
    paused = await backend.start(Reminder, 7, "press@example.com", id="reminder-press", tags=tags)
    failing = await backend.start(Reminder, 0, "ops@example.com", id="reminder-ops")
    cancelled = await backend.start(Reminder, 1, "legal@example.com", id="reminder-legal")
    await paused.pause("the figures are not final")
    await cancelled.cancel()
    await ended(cancelled)
    for execution, kind in ((paused, "paused"), (failing, "retry")):
        await waiting_for(execution, kind)


async def ended(execution: Execution) -> None:
    async def find() -> bool:
        return (await execution.describe()).ended_at is not None

    await until(find)


async def waiting_for(execution: Execution, kind: str) -> None:
    async def find() -> bool:
        return [one.kind for one in (await execution.describe()).waiting_for][:1] == [kind]

    await until(find)


async def until(find: Callable[[], Awaitable[T]]) -> T:
    """Return the first result of `find` that is not empty."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (found := await find()):  # noqa: ASYNC110 - no backend announces it
            await asyncio.sleep(0.02)
    return found


@dataclass(frozen=True)
class Picture:
    """A picture of a view, once a text is there; without a height, of the whole of it."""

    view: str
    text: str
    width: int = 1280
    height: int | None = None
    scheme: str = "light"


PICTURES = {
    "crash": Picture("executions/{deal}", "A worker was lost", height=860),
    "executions": Picture("", "reminder-ops"),
    "inbox": Picture("inbox", "invoice-2041", width=1000, scheme="dark"),
    "phone": Picture("", "reminder-ops", width=390, height=844, scheme="dark"),
}


async def taken(browser: Any, picture: Picture, address: str, token: str, deal: str) -> bytes:
    """Return a picture as WebP."""
    context = await browser.new_context(
        viewport={"width": picture.width, "height": picture.height or 600},
        device_scale_factor=SCALE,
        color_scheme=picture.scheme,
        timezone_id="UTC",
    )
    try:
        page = await context.new_page()
        await page.goto(f"{address}?token={token}#/{picture.view.format(deal=deal)}")
        await page.get_by_text(picture.text).first.wait_for()
        # What comes with a request of its own: the names of workers, the schemas of calls.
        await page.wait_for_timeout(1000)
        drawn = await page.screenshot(full_page=picture.height is None, animations="disabled")
        return await as_webp(await context.new_page(), drawn)
    finally:
        await context.close()


async def as_webp(page: Any, png: bytes) -> bytes:
    """Return a picture as WebP, which the browser can write."""
    written = await page.evaluate(
        """async ([png, quality]) => {
            const image = new Image();
            image.src = `data:image/png;base64,${png}`;
            await image.decode();
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.width, image.height];
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL("image/webp", quality).split(",")[1];
        }""",
        [base64.b64encode(png).decode(), QUALITY],
    )
    return base64.b64decode(written)


async def pictures() -> dict[str, bytes]:
    """Return all pictures, by name."""
    with tempfile.TemporaryDirectory(prefix="outlast-pictures-") as folder:
        async with scene(Path(folder)) as backend, opened_browser() as browser:
            app = inspector(backend, title="sqlite:///runs.db", user="grace")
            [deal] = await backend.list(outlast.Where(workflow="deal_analysis"))
            async with listening(app) as address:
                return {
                    name: await taken(browser, picture, address, app.token, deal.id)
                    for name, picture in PICTURES.items()
                }


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    place.mkdir(parents=True, exist_ok=True)
    for name, content in asyncio.run(pictures()).items():
        (place / f"{name}.webp").write_bytes(content)
