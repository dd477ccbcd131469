"""Which answers `voco2d listen` explains."""

import pytest

from voco2d.cli import build_parser, main
from voco2d.commands.listen import _grade, choose_explainer, load
from voco2d.commands.service_options import grading_options
from voco2d.errors import UsageError
from voco2d.inference.predictor import STORED, Predictor
from voco2d.inference.runtime import Models


class PlainRuntime:
    """An engine without gradients."""

    name, sha256, device, feature_distance = "plain", "0" * 64, "cpu", None

    def logits(self, _slices):
        return {}


@pytest.fixture
def plain_predictor(bright_predictor):
    return Predictor(Models([PlainRuntime()], bright_predictor().settings), gates="off")


@pytest.fixture
def _no_captum(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("voco2d.extras.import_module", missing)


def _words(*more):
    return build_parser().parse_args(["listen", "--model", "run", "--spool", "spool", *more]).explain


def test_the_command_leaves_it_open_unless_told():
    assert [_words(), _words("--explain"), _words("--no-explain")] == [None, True, False]


def test_a_run_of_torch_is_explained_unless_that_is_turned_off(bright_predictor):
    assert choose_explainer(None, bright_predictor()).gives_maps
    assert choose_explainer(False, bright_predictor()) is None


@pytest.mark.usefixtures("_no_captum")
def test_without_captum_the_node_goes_on_and_says_so_unless_key_slices_are_asked_for(bright_predictor, capsys):
    assert choose_explainer(None, bright_predictor()) is None
    assert "no key slices: an explanation needs captum" in capsys.readouterr().out
    with pytest.raises(UsageError, match="captum"):
        choose_explainer(True, bright_predictor())


def test_another_engine_is_explained_where_asked_for_and_says_what_it_lacks(plain_predictor, capsys):
    assert choose_explainer(None, plain_predictor) is None
    assert "unless --explain" in capsys.readouterr().out
    assert not choose_explainer(True, plain_predictor).gives_maps
    assert "only the engine torch" in capsys.readouterr().out


def test_how_long_results_are_kept_is_told(monkeypatch):
    told = {}

    def caught(**args):
        told.update(args)
        raise UsageError("enough")

    monkeypatch.setattr("voco2d.commands.listen.NodeArgs", caught)
    for more, hours in ((), None), (("--keep-results-hours", "0.5"), 0.5):
        main(["listen", "--model", "run", "--spool", "spool", *more])
        assert told["keep_results_h"] == hours


def test_grading_is_told_as_to_predict(monkeypatch, bright_predictor):
    words = ["listen", "--model", "run", "--spool", "spool", "--precision", "bf16", "--test-flips", "depth"]
    options = build_parser().parse_args([*words, "--calibration", "none", "--runtime", "torch", "--device", "cpu"])
    told = {}
    monkeypatch.setattr(Predictor, "load", lambda paths, **more: told.update(more, paths=paths) or bright_predictor())
    load(options.model, grading_options(options), False, False)
    assert (told["precision"], told["flips"], told["calibration"]) == ("bf16", ["depth"], None)
    assert (told["runtime"], told["device"], told["gates"]) == ("torch", "cpu", "refuse")
    assert grading_options(build_parser().parse_args(words))["calibration"] == STORED


def test_who_grades_is_told_of_images_that_were_forgotten(spool, clock):
    told = []
    for instance in "123":
        digest = spool.add("1", "1.1", instance, lambda path: path.write_bytes(b"x"))
        clock.now += 100
        _, version = spool.take(5.0)
        _grade(lambda folder, *more: told.append((folder.name, *more)) or {}, spool, digest, version)
        spool.ledger.finish(digest, version, "", [], [])
        if instance == "2":
            clock.now += 100
            spool.forget(50.0)
    assert told == [(digest, 1, False), (digest, 2, False), (digest, 3, True)]


def test_a_query_by_what_is_no_keyword_is_wrong_use_before_anything_is_fetched(tmp_path, capsys):
    words = ["listen", "--model", "run", "--spool", str(tmp_path / "spool"), "--fetch-from", "http://127.0.0.1:9"]
    assert main([*words, "--query", "Studydat=20260101-"]) == 2
    assert "Studydat is no DICOM keyword" in capsys.readouterr().err
    assert main(words) == 2
    assert "say which studies with --query" in capsys.readouterr().err
    assert not (tmp_path / "spool").exists()
