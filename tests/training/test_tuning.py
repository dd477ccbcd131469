import pytest
import torch
from torch import nn

from voco2d.errors import ConfigError
from voco2d.models.classifier import Classifier, ClassifierArgs
from voco2d.training.optim import OptimArgs, build_optimizer
from voco2d.training.tuning import TuningArgs, backbone_stages, frozen_parts, set_training, tune

BACKBONES = ("test_efficientnet", "test_resnet", "mobilenetv3_small_050", "lcnet_050", "convnext_atto", "test_vit")


def classifier(backbone: str = "test_efficientnet") -> Classifier:
    return Classifier(ClassifierArgs(backbone, hidden=4))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_stages_hold_every_parameter_once_the_image_first(backbone: str) -> None:
    model = classifier(backbone).backbone
    stages = backbone_stages(model)
    named = [name for stage in stages for name in stage]
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())
    assert len(stages) >= 3
    assert next(iter(model.named_parameters()))[0] in stages[0]


def step(model: Classifier, args: TuningArgs) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Take a large step and return the backbone's state before and after."""
    before = {name: values.clone() for name, values in model.backbone.state_dict().items()}
    optimizer = build_optimizer(tune(model, args, lr=0.1), OptimArgs(lr=0.1))
    set_training(model, list(frozen_parts(model.backbone)))
    sum(logits.square().sum() for logits in model(torch.rand(2, 3, 1, 32, 32)).values()).backward()  # type: ignore[union-attr]
    optimizer.step()
    return before, model.backbone.state_dict()


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet"])
def test_a_probe_changes_nothing_of_the_backbone_not_even_statistics(backbone: str) -> None:
    model = classifier(backbone)
    head = model.heads["liver"].weight.clone()
    before, after = step(model, TuningArgs(probe=True))
    assert all(torch.equal(after[name], values) for name, values in before.items())
    assert not torch.equal(model.heads["liver"].weight, head)
    assert not any(module.training for module in model.backbone.modules())


@pytest.mark.parametrize(
    ("args", "frozen"), [(TuningArgs(freeze_first=3), 3), (TuningArgs(train_last=2), 4), (TuningArgs(train_last=6), 0)]
)
def test_the_first_stages_stay_and_the_last_move(args: TuningArgs, frozen: int) -> None:
    model = classifier()
    stages = backbone_stages(model.backbone)
    assert len(stages) == 6
    before, after = step(model, args)
    moved = [any(not torch.equal(after[name], before[name]) for name in stage) for stage in stages]
    assert moved == [number >= frozen for number in range(6)]
    statistics = [name for name in before if name.endswith("running_mean")]
    still = [name for name in statistics if torch.equal(before[name], after[name])]
    kept = {name.rpartition(".")[0] for stage in stages[:frozen] for name in stage}
    assert {name.rpartition(".")[0] for name in still} == kept & {name.rpartition(".")[0] for name in statistics}


def test_rates_fall_from_the_heads_to_the_image() -> None:
    model = classifier()
    optimizer = build_optimizer(tune(model, TuningArgs(backbone_lr=0.5, stage_decay=0.1), lr=1.0), OptimArgs(lr=1.0))
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([1.0, *(0.5 * 0.1**depth for depth in (5, 4, 3, 2, 1, 0))])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_by_default_there_is_one_group() -> None:
    model = classifier()
    assert len(build_optimizer(tune(model, TuningArgs(), lr=1.0), OptimArgs()).param_groups) == 1


@pytest.mark.parametrize(
    "values",
    [{"probe": True, "freeze_first": 1}, {"freeze_first": -1}, {"backbone_lr": 0.0}, {"stage_decay": 1.5}],
)
def test_contradictions_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="tuning"):
        TuningArgs(**values)  # type: ignore[arg-type]


def test_more_stages_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tuning\.freeze_first=7: the backbone has 6 stages"):
        tune(classifier(), TuningArgs(freeze_first=7), lr=1.0)


def test_a_module_without_parameters_is_not_frozen() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert list(frozen_parts(model)) == [model[0]]
