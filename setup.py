"""What pyproject.toml cannot say: all folders under src are subpackages of durable_agents."""

from setuptools import find_packages, setup

setup(packages=["durable_agents", *(f"durable_agents.{package}" for package in find_packages("src"))])
