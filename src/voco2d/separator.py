"""Tells what separates the columns of a CSV table: a comma, or where spreadsheets write others, those."""

from collections.abc import Sequence

_OTHERS = (";", "\t")


def separator(header: Sequence[str]) -> str:
    """Return the separator of a table: another one than the comma only where its header leaves no doubt.

    Args:
        header: Names of the columns, as a comma separates them.

    Returns:
        ";" or a tab where the header is one name that holds just one of the two, else ",".
    """
    found = [other for other in _OTHERS if len(header) == 1 and other in header[0]]
    return found[0] if len(found) == 1 else ","
