"""A built-in tool: Mistral's server searches the web, and the answer names its sources.

Run it: make example NAME=web_search
    or: uv run examples/web_search.py
    or, with outlast[mistral,testing] installed: python examples/web_search.py
"""

import asyncio

from stand_in import Execute, ModelPrompt, Reply, Say, mistral

import outlast

researcher = outlast.Agent(
    model="mistral-medium-latest",
    name="researcher",
    description="Searches the web",
    instructions="Search the web, and answer in one sentence.",
    tools=[outlast.WebSearchTool()],
)


def stand_in(call: ModelPrompt) -> Reply:
    """Search, then answer with a reference to what was found."""
    source = {
        "type": "tool_reference",
        "tool": "web_search",
        "title": "Tour Eiffel",
        "url": "https://www.toureiffel.paris/en",
    }
    answer = {"type": "text", "text": "With its antennas, the Eiffel Tower is 330 m high."}
    return [Execute("web_search", {"query": call.text}), Say([answer, source])]


async def main() -> None:
    result = await outlast.Runner.run(researcher, "How high is the Eiffel Tower?", outlast.RemoteSession())
    print(result.text)
    for chunk in result:
        if isinstance(chunk, outlast.ToolReferenceChunk):
            print(f"source: {chunk.title}, {chunk.url}")


if __name__ == "__main__":
    with mistral(stand_in):
        asyncio.run(main())
