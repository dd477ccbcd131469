"""Files of others are the ones that VENDOR.md describes."""

import hashlib
import re
from pathlib import Path

import voco2d.service.web
from voco2d.service.web.routes import STATIC

VENDOR = STATIC / "vendor"


def test_every_file_is_listed_with_its_digest_and_licence() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", (VENDOR / "VENDOR.md").read_text(), re.MULTILINE)
    listed = dict(rows)
    shipped = {path.name for path in VENDOR.iterdir() if path.suffix in (".js", ".css")}
    assert set(listed) == shipped
    for name, digest in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    assert "Copyright (c) 2021, Niivue" in (VENDOR / "niivue.LICENSE.txt").read_text()
    assert "Apache License" in (VENDOR / "swagger-ui.LICENSE.txt").read_text()


def test_our_pages_name_no_outside_address_and_hold_no_script() -> None:
    for path in STATIC.glob("*.*"):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn", text), path.name
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*src=)|\son[a-z]+=|\sstyle=", text), path.name


def test_the_package_ships_them() -> None:
    project = Path(voco2d.service.web.__file__).parents[4] / "pyproject.toml"
    shipped = re.search(r"package-data\]\nvoco2d = \[(.*)\]", project.read_text())
    assert shipped is not None
    for path in STATIC.rglob("*.*"):
        assert f'"**/*{path.suffix}"' in shipped[1], path.name
