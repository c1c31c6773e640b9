"""Protecting executions from the code of other executions."""
