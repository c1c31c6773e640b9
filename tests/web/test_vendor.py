"""The files of other projects are those that their packages have, and the page is small."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from outlast.web.files import FOLDER

VENDOR = FOLDER / "vendor"
BROWSER_SIDE = Path(__file__).parent / "vendor"
PAGE_BYTES_MAX = 200_000


def manifest(folder: Path) -> list[dict[str, Any]]:
    packages: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text())["packages"]
    return packages


@pytest.mark.parametrize("folder", [VENDOR, BROWSER_SIDE], ids=["page", "tests"])
def test_each_file_is_the_one_that_the_manifest_names(folder: Path) -> None:
    listed = {file["file"]: file["sha256"] for package in manifest(folder) for file in package["files"]}
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del found["manifest.json"]
    assert found == listed


@pytest.mark.parametrize("folder", [VENDOR, BROWSER_SIDE], ids=["page", "tests"])
def test_each_package_has_a_version_a_licence_and_its_text(folder: Path) -> None:
    for package in manifest(folder):
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert package["licence"] in ("MIT", "Apache-2.0", "MPL-2.0")
        assert any(file["source"] == "LICENSE" for file in package["files"])


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < PAGE_BYTES_MAX


def test_the_page_loads_nothing_from_elsewhere() -> None:
    own = [path for path in FOLDER.iterdir() if path.is_file()]
    assert own
    for path in own:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(
            r"https?://|//cdn|@import|\bimport\(|\beval\(|innerHTML|insertAdjacentHTML", text
        ), path
        assert not re.search(r"<style|style=\"|onclick=\"|javascript:", text), path
        for imported in re.findall(r'^(?:import|export) .*?from "([^"]+)";', text, re.MULTILINE):
            assert (path.parent / imported).is_file(), (path.name, imported)
