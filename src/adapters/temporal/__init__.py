"""Temporal: executions are Temporal workflows, steps are its activities, its service keeps everything."""

from durable_agents.adapters.temporal.backend import TemporalBackend

__all__ = ["TemporalBackend"]
