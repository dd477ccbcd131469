"""Hook of MkDocs: takes in pages from outside of docs/, and leads links that are relative to the repository to them.

Pages are written to be read in the repository: `../benchmarks/cost/README.md` works there. On the site such pages have
the path they have in the repository, and README.md is the front page. A link to a folder leads to its README.md, a link
to anything else that the site doesn't hold (sources, scripts, tables) becomes its text with the path in the repository.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
_OUTSIDE = (
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/**/*.md", "results/**/*.md", "results/**/*.svg",
    "results/**/report.html",
)  # fmt: skip
_FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#")
_LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*stylesheet[^>]*//", re.IGNORECASE
)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and figures that lie outside of docs/."""
    for pattern in _OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, site_path(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Lead the links of a page to where their targets are on the site."""
    held = {file.src_uri for file in files}
    source = page.file.src_uri
    spared = [match.span() for pattern in (_FENCE, _CODE) for match in pattern.finditer(markdown)]

    def replaced(match: re.Match[str]) -> str:
        if _ELSEWHERE.match(match["target"]) or any(low <= match.start() < high for low, high in spared):
            return match[0]
        target, mark, anchor = match["target"].partition("#")
        path = repository_path(source).parent / target
        if not path.exists():
            raise PluginError(f"{repository_path(source)}: links to {target}, which is not there")
        path = path.resolve()
        readme = path / "README.md"
        uri = site_path(readme if readme.is_file() else path)
        if uri not in held:
            inside = path.relative_to(ROOT).as_posix()
            return match["text"] if path.name in match["text"] else f"{match['text']} (`{inside}`)"
        return f"{match['image']}[{match['text']}]({posixpath.relpath(uri, posixpath.dirname(source))}{mark}{anchor})"

    return _LINK.sub(replaced, markdown)


def on_post_build(config: Any) -> None:
    """Refuse a site that loads anything from elsewhere."""
    for page in _pages(Path(config["site_dir"])):
        found = _LOADED.search(page.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{page}: loads from elsewhere: {found[0]}")


def site_path(path: Path) -> str:
    """Return the source path on the site of a file of the repository."""
    inside = path.relative_to(ROOT).as_posix()
    return "index.md" if inside == "README.md" else inside.removeprefix("docs/")


def repository_path(uri: str) -> Path:
    """Return the file of the repository that a source path on the site stands for."""
    if uri == "index.md":
        return ROOT / "README.md"
    return ROOT / "docs" / uri if (ROOT / "docs" / uri).is_file() else ROOT / uri


def _pages(folder: Path) -> Iterator[Path]:
    yield from (page for page in sorted(folder.rglob("*.html")) if page.name != "report.html")
