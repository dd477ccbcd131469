"""The Compose files keep to the Compose specification, to least privilege, and to what docs/containers.md says."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from voco2d.cli import build_parser

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "containers"
COMPOSE = FOLDER / "compose.yaml"
GPU = FOLDER / "compose.gpu.yaml"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = ("listen", "serve")


def parsed(name: str) -> argparse.Namespace:
    """Read the command of a service as the command line does, with the defaults of its settings."""
    if name not in build_parser().format_help().split():
        pytest.skip(f"there is no voco2d {name} yet")
    words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in SERVICES[name]["command"]]
    return build_parser().parse_args(words)


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=lambda path: path.name)
def test_it_keeps_to_the_specification(path: Path) -> None:
    result = check_schema(path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_schema_would_refuse_a_wrong_key(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("cap_drop", "cap_dropp"))
    assert check_schema(wrong).returncode == 1


@pytest.mark.integration
def test_an_engine_could_read_it() -> None:
    """With the client of Docker and its Compose plugin; no engine is asked."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose")
    words = [docker, "compose", "-f", str(COMPOSE), "-f", str(GPU), "config", "--quiet"]
    given = {
        "ORTHANC_PASSWORD": "x",
        "VOCO2D_TOKEN": "x",
        "VOCO2D_MODEL": "/run",
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
    }
    subprocess.run(words, env={**given, "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}, check=True)


def test_the_services_are_there_on_their_ports() -> None:
    assert set(SERVICES) == {"orthanc", "listen", "serve"}
    published = {name: {port.rsplit(":", 2)[-1] for port in service["ports"]} for name, service in SERVICES.items()}
    assert published == {"orthanc": {"4242", "8042"}, "listen": {"11112"}, "serve": {"8000"}}
    assert [SERVICES[name]["command"][0] for name in OURS] == list(OURS)


@pytest.mark.parametrize("name", OURS)
def test_the_commands_take_the_options_they_are_given(name: str) -> None:
    options = parsed(name)
    assert options.host == "0.0.0.0"
    assert SERVICES[name]["ports"][0].endswith(f":{options.port}")


def test_names_and_settings_of_the_command_line_are_those_of_today() -> None:
    """The test above can fail: a wrong option is one."""
    with pytest.raises(SystemExit):
        build_parser().parse_args([*SERVICES["listen"]["command"], "--no-such-option"])


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_open_to_others_unless_asked_for(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith("${VOCO2D_BIND:-127.0.0.1}:") for port in service["ports"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"pids_limit", "mem_limit", "init", "restart"} <= set(service)
    assert not {"privileged", "network_mode", "pid", "cap_add", "devices"} & set(service)
    tag = service["image"].partition(":")[2]
    assert tag
    assert tag != "latest"


@pytest.mark.parametrize("name", OURS)
def test_ours_write_to_their_state_only(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert writable == [f"{name}:/state"]
    assert f"{'--spool' if name == 'listen' else '--state'}=/state" in service["command"]
    assert "--model=/model" in service["command"]


def test_the_node_is_left_the_time_to_end_its_study() -> None:
    """Docker kills after ten seconds, and a study that was under way at three kills is given up."""
    minutes = re.fullmatch(r"(\d+)m", SERVICES["listen"]["stop_grace_period"])
    assert minutes is not None
    assert int(minutes[1]) > parsed("listen").study_minutes


def test_there_is_no_way_out() -> None:
    tree = yaml.safe_load(COMPOSE.read_text())
    (name, network), *others = tree["networks"].items()
    assert not others
    assert network["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    assert all(service["networks"] == [name] for service in SERVICES.values())


def test_no_secret_stands_in_the_files() -> None:
    text = COMPOSE.read_text()
    assert "${ORTHANC_PASSWORD:?" in text
    assert SERVICES["serve"]["environment"]["VOCO2D_TOKEN"].startswith("${VOCO2D_TOKEN:?")
    orthanc = json.loads((FOLDER / "orthanc" / "orthanc.json").read_text())
    assert orthanc["RegisteredUsers"] == {"voco2d": "${ORTHANC_PASSWORD}"}


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=lambda path: path.name)
def test_what_is_built_and_mounted_exists(path: Path) -> None:
    for service in yaml.safe_load(path.read_text())["services"].values():
        build = service.get("build")
        if build:
            assert (FOLDER / build["context"] / build["dockerfile"]).is_file()
        mounted = [volume.partition(":")[0] for volume in service.get("volumes", []) if volume.startswith("./")]
        assert all((FOLDER / source).is_file() for source in mounted)


def test_the_gpu_file_changes_the_image_of_both_and_gives_them_a_device() -> None:
    services = yaml.safe_load(GPU.read_text())["services"]
    assert set(services) == set(OURS)
    for service in services.values():
        assert service["image"] == "voco2d:gpu"
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]


def test_orthanc_and_the_node_know_each_other() -> None:
    orthanc = json.loads((FOLDER / "orthanc" / "orthanc.json").read_text())
    listen = parsed("listen")
    node = orthanc["DicomModalities"]["voco2d"]
    assert (node["Host"], node["Port"], node["AET"]) == ("listen", listen.port, listen.ae_title)
    assert listen.allow == [orthanc["DicomAet"]]
    assert listen.send_to == [f"{orthanc['DicomAet']}@orthanc:{orthanc['DicomPort']}"]


def test_every_setting_is_documented() -> None:
    documented = (ROOT / "docs" / "containers.md").read_text()
    asked = set(re.findall(r"\$\{([A-Z0-9_]+)", COMPOSE.read_text()))
    missing = [name for name in sorted(asked) if f"`{name}`" not in documented]
    assert not missing
