from pathlib import Path

import pytest
import torch

from voco2d.config import to_tree
from voco2d.errors import CheckpointError, ConfigError
from voco2d.models.aggregators import AGGREGATORS
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import load_backbone, save_weights
from voco2d.models.classifier import (
    CLASSIFIER_KIND,
    SLICE_LOGITS,
    Classifier,
    ClassifierArgs,
    class_probabilities,
    load_classifier,
)
from voco2d.models.pooling import POOLINGS
from voco2d.models.state_names import load_state
from voco2d.targets import CLASS_COLUMNS, TARGETS

TINY = ClassifierArgs(backbone="test_efficientnet", hidden=8)


def metadata(args: ClassifierArgs) -> dict[str, object]:
    return {
        "kind": CLASSIFIER_KIND,
        "backbone": args.backbone,
        "classifier": to_tree(args),
        "targets": {name: list(target.classes) for name, target in TARGETS.items()},
    }


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "mobilenetv3_small_050"])
def test_gives_logits_for_every_target(backbone: str, aggregator: str) -> None:
    classifier = Classifier(ClassifierArgs(backbone, aggregator=aggregator, hidden=8)).eval()
    logits = classifier(torch.rand(2, 3, 1, 32, 32))
    assert {name: value.shape for name, value in logits.items()} == {
        name: (2, len(target.classes)) for name, target in TARGETS.items()
    }


def test_volumes_of_a_batch_do_not_touch_each_other() -> None:
    classifier = Classifier(TINY).eval()
    volumes = torch.rand(3, 4, 1, 32, 32)
    together = classifier(volumes)
    alone = classifier(volumes[1:2])
    for name in TARGETS:
        torch.testing.assert_close(together[name][1:2], alone[name], rtol=1e-4, atol=1e-5)


def test_slice_features_are_the_mean_of_the_map() -> None:
    classifier = Classifier(TINY).eval()
    volumes = torch.rand(1, 2, 1, 32, 32)
    expected = classifier.backbone(volumes[0]).flatten(2).mean(dim=2)
    torch.testing.assert_close(classifier.slice_features(volumes)[0], expected, rtol=1e-4, atol=1e-5)


def test_probabilities_of_each_target_sum_to_one() -> None:
    logits = {name: 50 * torch.randn(4, len(target.classes)) for name, target in TARGETS.items()}
    columns = class_probabilities(logits)
    assert columns.shape == (4, len(CLASS_COLUMNS))
    for target in TARGETS.values():
        chosen = [CLASS_COLUMNS.index(column) for column in target.columns]
        torch.testing.assert_close(columns[:, chosen].sum(dim=1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("values", [{"dropout": 1.0}, {"hidden": 0}, {"in_chans": 0}])
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ClassifierArgs(**values)  # type: ignore[arg-type]


def test_round_trip(tmp_path: Path) -> None:
    classifier = Classifier(TINY).eval()
    path = tmp_path / "fold_0.safetensors"
    save_weights(path, classifier.state_dict(), metadata(TINY))
    loaded, told = load_classifier(path)
    assert told["backbone"] == "test_efficientnet"
    volumes = torch.rand(1, 2, 1, 32, 32)
    for name, logits in classifier(volumes).items():
        torch.testing.assert_close(loaded(volumes)[name], logits)
    assert load_backbone(path).num_features > 0


def test_a_pretraining_checkpoint_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "weights_00000020.safetensors"
    save_weights(path, {"x": torch.zeros(1)}, {"kind": "pretrain"})
    with pytest.raises(CheckpointError, match=r"not a classifier but a pretrain checkpoint.*voco2d finetune"):
        load_classifier(path)


def test_other_targets_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fold_0.safetensors"
    save_weights(path, Classifier(TINY).state_dict(), metadata(TINY) | {"targets": {"heart": ["healthy"]}})
    with pytest.raises(CheckpointError, match="heart"):
        load_classifier(path)


def test_tensors_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fold_0.safetensors"
    other = ClassifierArgs(backbone="test_resnet", hidden=8)
    save_weights(path, Classifier(TINY).state_dict(), metadata(other))
    with pytest.raises(CheckpointError, match="doesn't fit its own description"):
        load_classifier(path)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_has_a_classifier(pooling: str) -> None:
    args = ClassifierArgs("test_efficientnet", in_chans=3, hidden=8, pooling=pooling)
    assert Classifier(args).eval()(torch.rand(1, 2, 3, 32, 32))["liver"].shape == (1, 3)


def test_slices_have_logits_of_their_own_where_asked_for() -> None:
    args = ClassifierArgs("test_efficientnet", hidden=8, slice_targets=("bowel", "liver", "spleen"))
    logits = Classifier(args).eval()(torch.rand(2, 5, 1, 32, 32))
    assert logits[SLICE_LOGITS].shape == (2, 5, 3)
    assert class_probabilities(logits).shape == (2, len(CLASS_COLUMNS))


def test_a_checkpoint_of_an_earlier_version_still_loads(tmp_path: Path) -> None:
    """Versions before other poolings, directions and layers told five settings only."""
    path = tmp_path / "fold_0.safetensors"
    classifier = Classifier(TINY).eval()
    told = {key: getattr(TINY, key) for key in ("backbone", "in_chans", "aggregator", "hidden", "dropout")}
    save_weights(path, classifier.state_dict(), {**metadata(TINY), "classifier": told})
    volumes = torch.rand(1, 2, 1, 32, 32)
    loaded, _ = load_classifier(path)
    for name, logits in classifier(volumes).items():
        torch.testing.assert_close(loaded(volumes)[name], logits)


@pytest.mark.parametrize("channels", [2, 3, 5, 6])
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "convnext_atto"])
def test_equal_channels_have_the_features_of_the_one_channel_that_was_pretrained(backbone: str, channels: int) -> None:
    torch.manual_seed(0)
    pretrained = build_backbone(backbone, in_chans=1).eval()
    wider = build_backbone(backbone, in_chans=channels).eval()
    load_state(wider, pretrained.state_dict(), backbone, "pretrained")
    image = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(wider(image.expand(-1, channels, -1, -1)), pretrained(image), rtol=1e-4, atol=1e-5)
