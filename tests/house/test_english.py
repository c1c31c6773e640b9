"""English: some phrases that readers of English as a second language have to read twice stand nowhere.

The glossary says which words stand for them. Only phrases that are never right are in the list.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
GLOSSARY = REPOSITORY / "docs" / "reference" / "glossary.md"

PHRASES = {
    "say who sends, emits, raises or logs it": r"(?i)\b(tell|tells|told|hear|hears|heard)\b",
    "say 'is not a …'": r"(?<![Tt]here )\b(is|are|was|were) (none|no (?!longer|more|less|later|earlier)\w+)",
    "say 'does not have it'": r"\b(has|have) not(?=[.,:;)]|$)",
    "say 'belongs in'": r"\bbelongs? into\b",
}
FINDERS = {advice: re.compile(phrase, re.MULTILINE) for advice, phrase in PHRASES.items()}
QUESTION = re.compile(r"\s*(What|Whether|Who|Whoever)\b")


def python_files(*folders: str) -> Iterator[Path]:
    """Yield the sources in these folders, but not those in the environments of the benchmarks' peers."""
    found = chain.from_iterable(sorted((REPOSITORY / folder).rglob("*.py")) for folder in folders)
    return (file for file in found if ".venv" not in file.parts)


@functools.cache
def nodes_of(file: Path) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return line and text of all strings, and of those that are statements."""
    strings, statements = [], []
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Constant(value=str(text), lineno=line):
                strings.append((line, text))
            case ast.Expr(value=ast.Constant(value=str(text), lineno=line)):
                statements.append((line, text))
    return strings, statements


def strings_in(file: Path) -> list[tuple[int, str]]:
    """Return the line and the text of every string: docstrings, errors, help and logs."""
    return nodes_of(file)[0]


def docstrings_in(file: Path) -> list[tuple[int, str]]:
    """Return the line and the text of every string that is a statement: also those of attributes."""
    return nodes_of(file)[1]


def texts() -> Iterator[tuple[Path, int, str]]:
    """Yield every text that people read, with its file and line."""
    for file in python_files("src"):
        yield from ((file, *found) for found in strings_in(file))
    for file in python_files("tests", "benchmarks", "examples", "docs"):
        yield from ((file, *found) for found in docstrings_in(file))
    for file in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]:
        if file != GLOSSARY:
            yield file, 1, file.read_text()


def test_no_text_has_a_phrase_that_must_be_read_twice() -> None:
    found = [
        f"{file.relative_to(REPOSITORY)}:{line + text[: phrase.start()].count(chr(10))}: "
        f"{phrase[0]!r}: {advice}"
        for file, line, text in texts()
        for advice, finder in FINDERS.items()
        for phrase in finder.finditer(text)
    ]
    assert found == []


def test_docstrings_name_their_subject_and_do_not_begin_with_a_question_word() -> None:
    found = [
        f"{file.relative_to(REPOSITORY)}:{line}: {text.strip().splitlines()[0]}"
        for file in python_files("src", "tests", "benchmarks", "examples", "docs")
        for line, text in docstrings_in(file)
        if QUESTION.match(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("the model is told why", True),
        ("a URL that is none", True),
        ("url is no URL", True),
        ("a tool that it has not", True),
        ("it belongs into a workflow", True),
        ("the key is None, or there is none", False),
        ("the worker is no longer alive", False),
        ("an execution that has not ended", False),
        ("tools that the server does not have", False),
    ],
)
def test_the_phrases_are_found_and_plain_english_is_not(text: str, is_found: bool) -> None:
    assert any(finder.search(text) for finder in FINDERS.values()) == is_found
