"""Temporal: executions are Temporal workflows, steps are Temporal activities, its service keeps all data."""

from outlast.adapters.temporal.backend import TemporalBackend
from outlast.adapters.temporal.connection import connection_options
from outlast.adapters.temporal.payloads import data_converter

__all__ = ["TemporalBackend", "connection_options", "data_converter"]
