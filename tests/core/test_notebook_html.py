"""Values as HTML for notebooks: whatever a text holds, it is shown and nothing else happens."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.event_stream import Event
from outlast.core.events import TextDeltaData
from outlast.core.notebook_html import SHOWN_CHARACTERS_MAX, fact_table, grid, shown


class Reader(HTMLParser):
    """Reads a document as a browser does: its elements, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


OURS = {"table", "caption", "tr", "th", "td", "pre"}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</pre></table><b>",
    '" onload="x',
    "&lt;b&gt;",
]
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.sampled_from(HOSTILE)


@given(texts, texts, texts)
def test_a_text_is_shown_as_it_is_and_makes_no_element(title: str, name: str, value: str) -> None:
    for html in (fact_table(title, [(name, value)]), grid(title, [name], [[value]])):
        found = read(html)
        assert found.elements <= OURS
        assert found.attributes <= {"style"}
        assert all(text in found.text for text in (title, name, value) if value and name)


def test_empty_values_are_left_out_of_facts_and_kept_in_grids() -> None:
    assert read(fact_table("t", [("a", None), ("b", ""), ("c", 0), ("d", ())])).text == "tc0"
    assert grid("t", ["a", "b"], [[1, None], [2, 3]]).count("<td") == 4


def test_the_end_of_a_long_text_is_left_out() -> None:
    assert read(shown("x" * (SHOWN_CHARACTERS_MAX + 7))).text.endswith("x\n… (7 more characters)")
    assert read(shown("x" * SHOWN_CHARACTERS_MAX)).text == "x" * SHOWN_CHARACTERS_MAX


def test_an_event_shows_its_kind_and_its_data() -> None:
    data = TextDeltaData(key="k", run="r", agent="a", turn=1, attempt=1, sequence=1, text="<b>Hi</b>")
    text = read(Event(3, datetime(2026, 1, 2, tzinfo=UTC), data)._repr_html_()).text
    assert text.startswith("event 3: text_delta")
    assert '"text":"<b>Hi</b>"' in text
