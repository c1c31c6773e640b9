"""Durable Agents: LLM agents that survive crashes."""
