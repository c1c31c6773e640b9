"""`python -m durable_agents.cli` is `durable-agents`."""

from durable_agents.cli import main

main()
