"""Takes the snippets out of the documentation: fenced and indented blocks of command lines, and blocks of Python."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(page for folder in ("docs", "benchmarks", "results") for page in (ROOT / folder).rglob("*.md")),
    ]
)
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4,}\S.*\n)+", re.MULTILINE)
_SHELL = ("", "console", "sh", "bash", "shell")
_LEADING = re.compile(r"^.*?(?<![\w/.-])voco2d (?=[a-z])")


@dataclass(frozen=True)
class Snippet:
    """A piece of a page.

    Args:
        page: Path in the repository.
        line: Its first line there, from 1.
        text: What stands there.
    """

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def python_snippets() -> Iterator[Snippet]:
    """Yield the blocks of Python."""
    yield from (snippet for kind, snippet in _blocks() if kind == "python")


def command_lines() -> Iterator[Snippet]:
    """Yield each command line of ours, without the prompt, what stands before it, and its comment."""
    for kind, block in _blocks():
        if kind not in _SHELL:
            continue
        joined = block.text.replace("\\\n", " " * 2)
        for number, line in enumerate(joined.splitlines()):
            found = _LEADING.match(line.strip().removeprefix("$ "))
            if found and line.strip().removeprefix("$ ").startswith(("voco2d", "torchrun", "srun", "pip install")):
                words = line.strip().removeprefix("$ ")[found.end() :]
                yield Snippet(block.page, block.line + number, words)


def words_of(line: str) -> list[str]:
    """Split a command line as a shell does, up to the next command."""
    words = shlex.split(line, comments=True)
    ends = [place for place, word in enumerate(words) if word in ("&", "&&", "|", ";", ">")]
    return words[: ends[0]] if ends else words


def _blocks() -> Iterator[tuple[str, Snippet]]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(ROOT).as_posix()
        for found in _FENCED.finditer(text):
            yield found[2], Snippet(name, text[: found.start(3)].count("\n") + 1, found[3])
        bare = _FENCED.sub(lambda found: "\n" * found[0].count("\n"), text)
        for found in _INDENTED.finditer(bare):
            if "voco2d " in found[0]:
                yield "", Snippet(name, bare[: found.start()].count("\n") + 1, found[0])
