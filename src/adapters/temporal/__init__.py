"""Temporal: executions are Temporal workflows, steps are its activities, its service keeps everything."""

from outlast.adapters.temporal.backend import TemporalBackend
from outlast.adapters.temporal.connection import connection_options
from outlast.adapters.temporal.payloads import data_converter

__all__ = ["TemporalBackend", "connection_options", "data_converter"]
