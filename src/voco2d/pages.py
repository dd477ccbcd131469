"""What the HTML pages share: how their templates are found and escaped, and one head with one style sheet."""

from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_SHARED: Final = Path(__file__).parent / "templates"


def page_environment(templates: Path) -> Environment:
    """Make the environment of a page; all texts are escaped, and an unknown name is an error.

    A page includes "page_head.html" after it has set `title`, `policy` (what its Content-Security-Policy allows
    beside its own style) and `style` (its own style sheet, which follows the shared one).

    Args:
        templates: Folder of the page's own templates.
    """
    return Environment(
        loader=FileSystemLoader([templates, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
