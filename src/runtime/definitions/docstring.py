"""Reading a docstring for a model: the task of the function, and the meaning of each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from types import MappingProxyType


@dataclass(frozen=True)
class Docstring:
    """The parts of a docstring that reach a model; both are empty where nothing was written."""

    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def parse(text: str) -> Docstring:
    """Return the text that stands before the parameters, and what is said of each parameter.

    Google, NumPy and Sphinx styles are recognised by their headings. Nothing is logged: a docstring
    that is not quite in a style is still a description.
    """
    text = text.strip()
    if "\n" not in text:
        return Docstring(text)  # No room for a section, so the parser need not be imported.

    import griffe

    sections = griffe.parse_auto(
        griffe.Docstring(text),
        default="google",
        per_style_options={
            "google": {"warnings": False},
            "numpy": {"warnings": False},
            "sphinx": {"warnings": False},
        },
    )
    is_parameters = griffe.DocstringSectionKind.parameters
    paragraphs = [
        _paragraph(section) for section in takewhile(lambda part: part.kind is not is_parameters, sections)
    ]
    parameters = {
        parameter.name.lstrip("*"): " ".join(parameter.description.split())
        for section in sections
        if isinstance(section, griffe.DocstringSectionParameters)
        for parameter in section.value
    }
    return Docstring(
        description="\n\n".join(filter(None, paragraphs)),
        parameters={name: said for name, said in parameters.items() if said},
    )


def _paragraph(section: object) -> str:
    import griffe

    match section:
        case griffe.DocstringSectionText():
            return section.value.strip()
        case griffe.DocstringSectionAdmonition():
            return f"{section.title}: {section.value.description.strip()}"
        case _:
            return ""  # Returns, Raises, Examples: they speak to the caller in Python.
