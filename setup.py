"""What pyproject.toml cannot say: all folders under src are subpackages of outlast."""

from setuptools import find_packages, setup

setup(packages=["outlast", *(f"outlast.{package}" for package in find_packages("src"))])
