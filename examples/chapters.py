"""Children: each chapter of a book is an execution of its own, two at a time, and the foreword waits.

Run it: make example NAME=chapters
    or: uv run examples/chapters.py
    or, with outlast[mistral,testing] installed: python examples/chapters.py
"""

import asyncio

from stand_in import ModelPrompt, Reply, Say, mistral

import outlast

writer = outlast.Agent(
    model="mistral-medium-latest",
    name="writer",
    description="Writes chapters",
    instructions="Write the first sentence of a chapter on this subject.",
)


@outlast.workflow.define(name="chapter")
class Chapter:
    @outlast.workflow.entrypoint
    async def run(self, subject: str) -> str:
        return (await outlast.Runner.run(writer, subject, outlast.RemoteSession())).text


@outlast.workflow.define(name="foreword")
class Foreword:
    def __init__(self) -> None:
        self.text: str | None = None

    @outlast.workflow.signal
    def write(self, text: str) -> None:
        self.text = text

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        await outlast.workflow.wait_condition(lambda: self.text is not None)
        return str(self.text)


@outlast.workflow.define(name="book")
class Book:
    @outlast.workflow.entrypoint
    async def run(self, subjects: list[str]) -> list[str]:
        foreword = await outlast.workflow.start_child(Foreword)
        chapters = await outlast.workflow.map(Chapter, subjects, at_once=2)
        await foreword.signal("write", f"This book has {len(chapters)} chapters.")
        return [await foreword.result(), *chapters]


def stand_in(call: ModelPrompt) -> Reply:
    """It has a sentence for everything."""
    return [Say(f"Few things are as old as {call.text}.")]


async def main() -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Book, Chapter, Foreword]):
        book = await backend.start(Book, ["tides", "winds", "clouds"], id="book")
        print(*await book.result(), sep="\n")
        children = await backend.list(outlast.Where(id_prefix="book/"))
        print(*sorted(f"{child.workflow} {child.status}" for child in children), sep="\n")


if __name__ == "__main__":
    with mistral(stand_in):
        asyncio.run(main())
