"""Says why there is nothing to read at a path."""

from pathlib import Path


def why_absent(path: Path) -> str:
    """Say why there is no file or folder at a path; empty where there is one."""
    try:
        if path.exists():
            return ""
        return "a link that leads nowhere" if path.is_symlink() else "missing"
    except OSError as error:  # such as a name that is too long for the file system
        return f"can't be opened ({error.strerror})"
    except ValueError:  # a zero byte
        return "not a path"
