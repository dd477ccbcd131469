"""The page of a report: sections of text, tables and figures, written as one HTML file without outside requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from voco2d.durable import write_durably
from voco2d.errors import UsageError
from voco2d.pages import page_environment
from voco2d.version import VERSION

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Paragraph:
    """One paragraph of plain text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of short texts."""

    kind: ClassVar[str] = "bullets"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A table cell with a smaller line below its text, an interval for example.

    Args:
        text: The value.
        note: The smaller line.
        strong: Whether to set the value off from its neighbours.
    """

    text: str
    note: str = ""
    strong: bool = False


Row: TypeAlias = tuple[str | Cell, ...]
"""A row of a table."""


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Args:
        header: Titles of the columns.
        rows: Texts or cells, as many a row as there are titles.
        caption: What the table says, and how its numbers came about.
    """

    kind: ClassVar[str] = "table"
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """An image that travels inside the page.

    Args:
        source: A `data:` address.
        alt: What it shows, for those who can't see it.
        caption: What to look for.
    """

    kind: ClassVar[str] = "figure"
    source: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Figures side by side, as many as the screen is wide."""

    kind: ClassVar[str] = "gallery"
    figures: tuple[Figure, ...]


Block: TypeAlias = Paragraph | Heading | Bullets | Table | Figure | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading.

    Args:
        title: The heading.
        blocks: What stands under it, in order.
    """

    title: str
    blocks: tuple[Block, ...]


def write_report(out: Path, title: str, sections: Sequence[Section]) -> None:
    """Write a page; an abort leaves the old one or the new one, never half of it.

    All texts are escaped, so that ids and names from files can't become part of the page's code.

    Args:
        out: The HTML file; its folder is made where it is missing.
        title: Title of the page.
        sections: In order.

    Raises:
        UsageError: `out` is a folder.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name an HTML file")
    page = (
        page_environment(_TEMPLATES).get_template("report.html").render(title=title, sections=sections, version=VERSION)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    # ids from broken files may hold lone surrogates, which UTF-8 has no bytes for
    write_durably(out, lambda temporary: temporary.write_text(page, encoding="utf-8", errors="replace"))


def text_section(title: str, paragraphs: Sequence[str]) -> Section:
    """Make a section of plain paragraphs."""
    return Section(title, tuple(Paragraph(text) for text in paragraphs))


def number(value: float | None, digits: int = 3) -> str:
    """Write a score; None is `undefined`."""
    return "undefined" if value is None else f"{value:.{digits}f}"


def scored(value: float | None, interval: Any = None, sign: bool = False) -> Cell:
    """Make the cell of a score with its interval `[low, high]`; `sign` writes + before what is above 0."""
    if value is None:
        return Cell("undefined")
    texts = [f"{entry:{'+' if sign else ''}.3f}".replace("-", "−") for entry in (value, *(interval or ()))]
    return Cell(texts[0], " to ".join(texts[1:]))
