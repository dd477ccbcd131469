import pytest
import torch

from voco2d.errors import ConfigError
from voco2d.models.classifier import Classifier, ClassifierArgs, class_probabilities
from voco2d.models.flip_average import FLIP_AXES, check_flips, flip_averaged

VOLUMES = torch.rand(2, 4, 1, 32, 32)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(ClassifierArgs("test_efficientnet", hidden=8, slice_targets=("bowel",))).eval()


def test_probabilities_are_the_mean_over_the_mirror_images(classifier: Classifier) -> None:
    graded = [class_probabilities(classifier(VOLUMES))]
    graded += [class_probabilities(classifier(VOLUMES.flip(axis))) for axis in (1, 4)]
    averaged = class_probabilities(flip_averaged(classifier, VOLUMES, ("depth", "width")))
    torch.testing.assert_close(averaged, torch.stack(graded).mean(dim=0), rtol=1e-5, atol=1e-6)


def test_all_flips_grade_a_volume_and_its_mirror_image_alike(classifier: Classifier) -> None:
    for name, axis in FLIP_AXES.items():
        graded = flip_averaged(classifier, VOLUMES, (name,))
        for target, logits in flip_averaged(classifier, VOLUMES.flip(axis), (name,)).items():
            torch.testing.assert_close(logits, graded[target], rtol=1e-4, atol=1e-5)


def test_without_flips_the_logits_stay(classifier: Classifier) -> None:
    expected = classifier(VOLUMES)
    for target, logits in flip_averaged(classifier, VOLUMES, ()).items():
        assert torch.equal(logits, expected[target])


@pytest.mark.parametrize("flips", [["time"], ["depth", "depth"]])
def test_unknown_and_repeated_flips_are_refused(flips: list[str]) -> None:
    with pytest.raises(ConfigError, match="test_flips"):
        check_flips(flips)
