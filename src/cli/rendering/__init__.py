"""Executions and events as text for people, and for programs: one JSON document a line."""
