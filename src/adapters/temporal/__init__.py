"""Temporal: executions are Temporal workflows, steps are its activities, its service keeps everything."""

from durable_agents.adapters.temporal.backend import TemporalBackend
from durable_agents.adapters.temporal.connection import connection_options
from durable_agents.adapters.temporal.payloads import data_converter

__all__ = ["TemporalBackend", "connection_options", "data_converter"]
