"""Every network against the literature's figures, and the contract of its features.

Parameter counts and feature shapes are those of the networks of Tian, Krishnan & Isola, *Contrastive
representation distillation*, ICLR 2020, for 100 classes.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from commands import run
from helpers import Operations
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmarks import models
from benchmarks.errors import UserError
from benchmarks.models import Network, network
from methods import Features, FeatureSpec, InvalidSetting
from methods.registry import import_all

RESNET = ((16, 32), (16, 32), (32, 16), (64, 8))
RESNET_X4 = ((32, 32), (64, 32), (128, 16), (256, 8))
WRN_2 = ((16, 32), (32, 32), (64, 16), (128, 8))
VGG = ((64, 32), (128, 16), (256, 8), (512, 4), (512, 4))

# Number of parameters, (channels, side) of each stage, size of the embedding.
LITERATURE = {
    "resnet8": (83_892, RESNET, 64),
    "resnet14": (181_108, RESNET, 64),
    "resnet20": (278_324, RESNET, 64),
    "resnet32": (472_756, RESNET, 64),
    "resnet44": (667_188, RESNET, 64),
    "resnet56": (861_620, RESNET, 64),
    "resnet110": (1_736_564, RESNET, 64),
    "resnet8x4": (1_233_540, RESNET_X4, 256),
    "resnet32x4": (7_433_860, RESNET_X4, 256),
    "ResNet50": (23_705_252, ((64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4)), 2048),
    "wrn_16_1": (180_916, RESNET, 64),
    "wrn_16_2": (703_284, WRN_2, 128),
    "wrn_40_1": (569_780, RESNET, 64),
    "wrn_40_2": (2_255_156, WRN_2, 128),
    "vgg8": (3_965_028, VGG, 512),
    "vgg11": (9_277_284, VGG, 512),
    "vgg13": (9_462_180, VGG, 512),
    "vgg16": (14_774_436, VGG, 512),
    "vgg19": (20_086_692, VGG, 512),
    "MobileNetV2": (812_836, ((16, 16), (12, 16), (16, 8), (48, 4), (160, 2)), 1280),
    "ShuffleV1": (949_258, ((24, 32), (240, 16), (480, 8), (960, 4)), 960),
    "ShuffleV2": (1_355_528, ((24, 32), (116, 16), (232, 8), (464, 4)), 1024),
}


@dataclass(frozen=True)
class Case:
    """A network in the training mode, a batch and what it showed of it."""

    name: str
    network: Network
    images: Tensor
    features: Features


@pytest.fixture(scope="module", params=models.available())
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    network, images = models.create(request.param), torch.randn(2, 3, 32, 32)
    return Case(request.param, network, images, network.features(images, preacts=True))


def figures_of(name: str) -> tuple[int, tuple[tuple[int, int], ...], int]:
    """Those of the literature."""
    if name not in LITERATURE:
        pytest.skip("no network of the literature")
    return LITERATURE[name]


def test_every_network_of_the_literature_is_there() -> None:
    assert set(LITERATURE) <= set(models.available())


def test_the_number_of_parameters_is_the_literatures(case: Case) -> None:
    assert sum(parameter.numel() for parameter in case.network.parameters()) == figures_of(case.name)[0]


def test_features_have_the_literatures_shapes(case: Case) -> None:
    _, maps, embedding = figures_of(case.name)
    spec = FeatureSpec.of(case.features)
    assert spec.stages == spec.preacts == tuple((channels, side, side) for channels, side in maps)
    assert (spec.embedding, spec.logits) == (embedding, 100)


@pytest.mark.parametrize("name", models.available())
def test_there_are_as_many_logits_as_classes(name: str) -> None:
    with torch.device("meta"):
        assert models.create(name, num_classes=7)(torch.empty(2, 3, 32, 32)).shape == (2, 7)


def at_twice_the_side(name: str) -> list[int]:
    """How often larger the maps of an image of twice the side are: VGGs pool once more before their last block."""
    num_maps = len(LITERATURE[name][1])
    return [2] * (num_maps - 1) + [1 if name.startswith("vgg") else 2]


def test_a_larger_image_has_larger_maps_and_as_many_features(case: Case) -> None:
    _, maps, embedding = figures_of(case.name)
    spec = FeatureSpec.of(case.network.features(torch.randn(2, 3, 64, 64), preacts=True))
    sides = [scale * side for scale, (_, side) in zip(at_twice_the_side(case.name), maps, strict=True)]
    wanted = tuple((channels, side, side) for (channels, _), side in zip(maps, sides, strict=True))
    assert spec.stages == spec.preacts == wanted
    assert (spec.embedding, spec.logits) == (embedding, 100)


@pytest.mark.parametrize("name", LITERATURE)
def test_the_learning_rate_is_the_common_protocols(name: str) -> None:
    assert models.entry(name).lr == (0.01 if name in {"MobileNetV2", "ShuffleV1", "ShuffleV2"} else 0.05)


def test_an_unknown_name_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(InvalidSetting, match="resnet32x4"):
        models.create("resnet34x4")


def test_stages_of_wide_resnets_and_mobilenet_are_signed(case: Case) -> None:
    figures_of(case.name)
    *_, last = signed = FeatureSpec.of(case.features).signed
    assert last == case.name.startswith(("wrn", "MobileNet"))
    assert set(signed[1:]) == {last}
    assert signed[0] == case.name.startswith("wrn")  # MobileNetV2's stem is rectified


def _batch_normed(stage: Tensor) -> Tensor:
    return F.batch_norm(stage, None, None, training=True)


def _shuffled(stage: Tensor) -> Tensor:
    left, right = F.relu(stage).chunk(2, dim=1)
    return torch.stack((left, right), dim=2).flatten(1, 2)


def test_preacts_are_the_stages_before_their_activation(case: Case) -> None:
    """The stem is the same in both; at their initialisation, batch norms neither scale nor shift."""
    figures_of(case.name)  # another's activation may be another
    stages, preacts = case.features.stages, case.features.preacts
    assert stages[0] is preacts[0]
    for stage, preact in zip(stages[1:], preacts[1:], strict=True):
        assert (preact < 0).any()
        if case.name.startswith("wrn"):  # the batch norm comes after the sum that is the stage
            torch.testing.assert_close(preact, _batch_normed(stage))
        elif case.name == "MobileNetV2":  # linear
            assert stage is preact
        elif case.name == "ShuffleV2":
            assert torch.equal(stage, _shuffled(preact))
        else:
            assert torch.equal(stage, F.relu(preact))


def test_forward_does_what_features_does(case: Case) -> None:
    with Operations() as of_forward:
        logits = case.network(case.images)
    with Operations() as of_features:
        features = case.network.features(case.images)
    assert torch.equal(logits, features.logits)
    assert of_forward.names == of_features.names


def test_the_head_makes_the_logits_of_the_embedding_which_is_the_mean_of_the_final_map(case: Case) -> None:
    assert torch.equal(case.network.head(case.features.embedding), case.features.logits)
    if case.features.final is not None:  # which another network need not show
        assert torch.equal(case.features.final.mean(dim=(2, 3)), case.features.embedding)


def test_a_network_that_does_not_tell_its_batch_norms_says_by_what_it_would() -> None:
    with pytest.raises(InvalidSetting, match=r"a MobileNetV2 has no norms\(\)"):
        models.create("MobileNetV2").norms()


def test_preacts_come_on_request_and_change_nothing(case: Case) -> None:
    without = case.network.features(case.images)
    assert without.preacts == ()
    assert torch.equal(without.logits, case.features.logits)


def test_every_batch_norm_runs_once_a_batch(case: Case) -> None:
    """A second evaluation would move its running statistics twice."""
    network = deepcopy(case.network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    ran = []
    for norm in norms:
        norm.register_forward_hook(lambda norm, images, output: ran.append(norm))
    network.features(case.images, preacts=True)
    assert Counter(ran) == Counter(norms)


class _OutOfPlace(TorchFunctionMode):
    """Gives every ReLU a tensor of its own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = {name: value for name, value in (kwargs or {}).items() if name != "inplace"}
        return (F.relu if func in (F.relu, F.relu_, Tensor.relu_) else func)(*args, **arguments)


def test_operations_in_place_spare_the_features(case: Case) -> None:
    with _OutOfPlace():
        expected = case.network.features(case.images, preacts=True)
    assert all(map(torch.equal, case.features.tensors(), expected.tensors()))


def test_gradients_of_all_features_reach_every_parameter(case: Case) -> None:
    shown = case.network.features(case.images, preacts=True).tensors()
    before = [tensor.detach().clone() for tensor in shown]
    loss = torch.stack([tensor.square().mean() for tensor in shown]).sum()
    learning = [parameter for parameter in case.network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, (*shown, *learning))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(gradient.any() for gradient in gradients)
    assert all(map(torch.equal, shown, before))


def test_a_state_dict_restores_the_network(case: Case) -> None:
    other = models.create(case.name)
    other.load_state_dict(case.network.state_dict(), strict=True)
    state, restored = case.network.state_dict(), other.state_dict()
    assert list(state) == list(restored)
    assert all(torch.equal(state[key], restored[key]) for key in state)
    assert torch.equal(other(case.images), case.features.logits)


# --- a network of the user's own


@pytest.fixture
def add_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Makes a file of networks, as if it lay in the package."""
    models.available()
    monkeypatch.setattr(network, "_NETWORKS", dict(network._NETWORKS))
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "benchmarks.models.ones_own", raising=False)

    def write(content: str) -> Path:
        (path := tmp_path / "ones_own.py").write_text(content)
        import_all.cache_clear()
        return path

    yield write
    sys.modules.pop("benchmarks.models.ones_own", None)
    monkeypatch.undo()
    import_all.cache_clear()


BROKEN_FILES = {
    "import nothing_there": "ModuleNotFoundError: No module named 'nothing_there'",
    "def f(:": "SyntaxError: invalid syntax",
    "from benchmarks.models import Network, register\nregister('vgg8', Network)": (
        "ValueError: two networks are called vgg8: benchmarks.models.vgg and benchmarks.models.network"
    ),
}


@pytest.mark.parametrize(("content", "why"), BROKEN_FILES.items(), ids=BROKEN_FILES.values())
@pytest.mark.parametrize("act", [models.available, lambda: models.create("vgg8")], ids=["available", "create"])
def test_a_broken_file_of_a_network_is_named(
    add_file: Callable[[str], Path], content: str, why: str, act: Callable[[], object]
) -> None:
    path, line = add_file(content), content.count("\n") + 1
    with pytest.raises(UserError) as caught:
        act()
    assert str(caught.value).startswith(f"{path}, line {line}: {why}")


def test_the_bare_command_names_a_broken_file_of_a_network(
    add_file: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = add_file("import nothing_there")
    assert run() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}, line 1" in line


MINE = """
from benchmarks.models import Network, register
from torch import nn

class Mine({base}):
    def __init__(self, num_classes):
        super().__init__()

    def features(self, {arguments}):
        return None

register("ones_own", Mine)
"""


def test_a_network_of_ones_own_is_there(add_file: Callable[[str], Path]) -> None:
    add_file(MINE.format(base="Network", arguments="x, preacts=False"))
    assert "ones_own" in models.available()
    assert type(models.create("ones_own", 10)).__name__ == "Mine"


@pytest.mark.parametrize(
    ("base", "arguments", "why"),
    [
        ("Network", "x", r"network ones_own: features\(x\) lacks preacts=False"),
        ("nn.Module", "x, preacts=False", "network ones_own: a Mine is no Network"),
    ],
)
def test_a_network_that_cannot_show_what_it_must_is_refused(
    add_file: Callable[[str], Path], base: str, arguments: str, why: str
) -> None:
    add_file(MINE.format(base=base, arguments=arguments))
    with pytest.raises(UserError, match=why):
        models.create("ones_own", 10)
