"""A research team: a coordinator has agents as tools, asks a person once, and has a budget of money for all.

Run it: make example NAME=research_team
    or: uv run examples/research_team.py
    or, with outlast[mistral,testing] installed: python examples/research_team.py

The three researchers work side by side, each in a run of its own within the coordinator's run. If the worker
dies at any point, what was found is in the journal, and the question still waits.
"""

import asyncio

from stand_in import Call, ModelPrompt, Reply, Say, mistral

import outlast


@outlast.activity
async def search(query: str) -> str:
    """Search the archive.

    Args:
        query: What to look for
    """
    return f"three sources on {query}"


def focus(run: outlast.RunContext[str]) -> str:
    return f"You plan research for {run.context}. Ask a person for what you cannot know."


FIELDS = ("history", "technology", "economy")
researchers = [
    outlast.Agent(
        model="mistral-small-latest",
        name=field,
        description=f"Finds out about the {field} of a subject.",
        instructions="Search, then report in one sentence.",
        tools=[search],
    ).as_tool(max_turns=4)
    for field in FIELDS
]
coordinator = outlast.Agent(
    model="mistral-medium-latest",
    name="coordinator",
    instructions=focus,
    tools=[*researchers, outlast.AskPerson(to="the editor")],
)


@outlast.workflow.define(name="research")
class Research:
    @outlast.workflow.entrypoint
    async def run(self, subject: str, customer: str) -> str:
        session = outlast.LocalSession()
        result = await outlast.Runner.run(coordinator, subject, session, max_cost="0.05", context=customer)
        return f"{result.text} (${result.cost:.4f})"


async def main() -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Research]):
        execution = await backend.start(Research, "lighthouses", "a museum")
        async for event in execution.events():
            match event.data:
                case outlast.events.ToolCalledData(tool=tool, agent=agent):
                    print(f"{agent} asks {tool}")
                case outlast.events.QuestionAskedData(key=key, question=question, to=to):
                    print(f"to {to}: {question}")
                    await execution.answer(key, "the nineteenth century", by="Ann")
        print(await execution.result())


def stand_in(call: ModelPrompt) -> Reply:
    """Plan, ask, and report."""
    results = [entry["content"] for entry in call.entries if entry.get("role") == "tool"]
    if not (call.instructions or "").startswith("You plan"):
        return [Say(f"There are {results[-1]}.")] if results else [Call("search", {"query": "lighthouses"})]
    if not results:
        return [Call("ask_person", {"question": "Which century?"})]
    if len(results) == 1:
        return [Call(field, {"input": f"lighthouses in {results[0]}"}) for field in FIELDS]
    return [Say(" ".join(results[1:]))]


if __name__ == "__main__":
    with mistral(stand_in):
        asyncio.run(main())
