import numpy as np
import pytest
import torch

from voco2d.inference.explain.evidence import ATTENTION, INTEGRATED_GRADIENTS, MAX_POSITIONS, OCCLUSION, WINDOW
from voco2d.inference.explain.gradients import find_evidence
from voco2d.models.classifier import Classifier, ClassifierArgs

SLICES = 9


def _score(network, vectors, target):
    logits = network.grade_features(vectors)[target]
    return float(logits[0, 1:].logsumexp(dim=0) - logits[0, 0])


@pytest.fixture(scope="module")
def slices():
    levels = np.linspace(0.2, 1, SLICES, dtype=np.float32)[:, None, None, None]
    return levels * np.random.default_rng(0).random((SLICES, 1, 64, 64), dtype=np.float32)


@pytest.fixture(scope="module", params=["lstm", "attention", "mean", "transformer"])
def explained(request, slices):
    """A network that fits these slices' statistics, their vectors, and what was found."""
    torch.manual_seed(1)
    network = Classifier(ClassifierArgs(backbone="test_efficientnet", aggregator=request.param, hidden=16)).eval()
    with torch.no_grad():
        for _ in range(20):  # an untrained network hardly looks at its input before its batch norm fits
            network.backbone.train()(torch.from_numpy(slices))
    network.eval()
    for weights in network.aggregator.parameters():
        weights.data *= 4  # and hardly tells slices apart with small weights
    with torch.no_grad():
        vectors = network.slice_features(torch.from_numpy(slices)[None])
    return request.param, network, vectors, find_evidence(network, slices)


def test_integrated_gradients_sum_to_what_the_scan_differs_from_its_mean_slices(explained):
    name, network, vectors, found = explained
    with torch.no_grad():
        rise = _score(network, vectors, "liver") - _score(
            network, vectors.mean(dim=1, keepdim=True).expand_as(vectors), "liver"
        )
    assert abs(rise) > 1e-3 or name in ("mean", "attention")  # mean slices have the same mean
    assert found["liver"].curves[INTEGRATED_GRADIENTS].sum() == pytest.approx(rise, rel=0.1, abs=1e-4)


def test_occlusion_is_the_mean_fall_over_the_windows_that_hide_a_slice(explained):
    _, network, vectors, found = explained
    falls, times = np.zeros(SLICES), np.zeros(SLICES)
    for start in range(SLICES - WINDOW + 1):
        hidden = vectors.clone()
        hidden[:, start : start + WINDOW] = vectors.mean(dim=1, keepdim=True)
        with torch.no_grad():
            falls[start : start + WINDOW] += _score(network, vectors, "spleen") - _score(network, hidden, "spleen")
        times[start : start + WINDOW] += 1
    np.testing.assert_allclose(found["spleen"].curves[OCCLUSION], falls / times, rtol=1e-3, atol=1e-5)


def test_maps_are_grad_cam_of_each_slice(explained, slices):
    _, network, _, found = explained
    with torch.no_grad():
        maps = network.backbone(torch.from_numpy(slices))
    maps.requires_grad_()
    highest = []
    for name, evidence in found.items():
        logits = network.grade_features(network.pooling(maps)[None])[name][0]
        (slope,) = torch.autograd.grad(logits[1:].logsumexp(dim=0) - logits[0], maps)
        expected = (slope.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu().detach().numpy()
        np.testing.assert_allclose(evidence.heat, expected, rtol=1e-3, atol=1e-6)
        highest.append(expected.max())
    assert max(highest) > 1e-4


def test_only_aggregators_that_pick_slices_tell_which(explained):
    name, network, vectors, found = explained
    curves = found["kidney"].curves
    assert (MAX_POSITIONS in curves) == (name in ("lstm", "transformer"))
    assert (ATTENTION in curves) == (name == "attention")
    if name == "attention":
        assert curves[ATTENTION].sum() == pytest.approx(1)
    if name == "lstm":
        states = network.aggregator.states(vectors)[0]
        never = np.setdiff1d(np.arange(SLICES), states.argmax(dim=0).numpy())
        assert not curves[MAX_POSITIONS][never].any()
        assert curves[MAX_POSITIONS].any()


def test_the_same_scan_gives_the_same_bytes(explained, slices):
    _, network, _, found = explained
    again = find_evidence(network, slices)
    for name, evidence in found.items():
        assert evidence.heat.tobytes() == again[name].heat.tobytes()
        for method, curve in evidence.curves.items():
            assert curve.tobytes() == again[name].curves[method].tobytes()


def test_the_slice_that_decides_is_found_by_every_method(bright_classifier):
    slices = np.zeros((SLICES, 1, 16, 16), np.float32)
    slices[6, 0, 8:12, 4:8] = 1
    for evidence in find_evidence(bright_classifier, slices).values():
        for curve in evidence.curves.values():
            assert curve.argmax() == 6
            assert curve[[0, 1, 2, 3]].max() <= 1e-6
        assert np.unravel_index(evidence.heat.argmax(), evidence.heat.shape) == (6, 2, 1)
