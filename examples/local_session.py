"""The agent of interest_rates.py on chat completions: the conversation is kept here, and sent whole.

`LocalSession` talks to any server with a chat-completions endpoint: LocalSession(server_url="http://...").

Run it: make example NAME=local_session
    or: uv run examples/local_session.py
    or, with outlast[mistral,testing] installed: python examples/local_session.py
"""

import asyncio

from interest_rates import economist, stand_in
from stand_in import mistral

import outlast


async def main() -> None:
    session = outlast.LocalSession()
    first = await outlast.Runner.run(economist, "What is the policy interest rate in France?", session)
    print(first.text)
    # A session that is used again goes on with its conversation.
    second = await outlast.Runner.run(economist, "Thank you. And once more?", session)
    print(f"{second.text} ({first.turns} and {second.turns} turns)")


if __name__ == "__main__":
    with mistral(stand_in):
        asyncio.run(main())
