import logging
import subprocess
import sys

import pytest

from voco2d.cli import main
from voco2d.logs import wordless


def test_a_traceback_without_words_shows_where_and_not_what():
    name = "Doe^" + "John"

    def parse():
        return float(name)

    def read():
        try:
            return parse()
        except ValueError as error:
            raise RuntimeError(name) from error

    with pytest.raises(RuntimeError, match="John") as caught:
        read()
    told = wordless(caught.value)
    assert name not in told
    assert (
        told.index("in parse") < told.index("ValueError") < told.index("after which came") < told.index("RuntimeError")
    )


def test_verbose_tells_of_an_unexpected_error_without_its_words(monkeypatch, tmp_path, caplog, capsys):
    name = "Doe^" + "John"

    def fail(*_):
        raise ValueError(name)

    monkeypatch.setattr("voco2d.commands.prepare.prepare", fail)
    with caplog.at_level(logging.DEBUG):
        assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "store"), "--verbose"]) == 1
    assert "unexpected ValueError" in capsys.readouterr().err
    assert "in fail" in caplog.text
    assert name not in caplog.text


@pytest.mark.parametrize("command", ["prepare", "predict"])
def test_an_empty_source_is_not_this_folder(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "", "--out", "x", *(["--model", "y"] if command == "predict" else [])])
    assert ended.value.code == 2
    assert "an empty path" in capsys.readouterr().err


def test_words_of_threads_finalizers_and_warnings_stay_off_the_terminal():
    script = """
import threading, warnings
from voco2d.logs import quiet_libraries

class Odd:
    def __del__(self):
        raise ValueError("Doe^Finalizer")

def fail():
    raise ValueError("Doe^Thread")

quiet_libraries()
Odd()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
warnings.warn("Doe^Warning")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
