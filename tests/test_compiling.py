"""Compiled kernels are used where they do what torch's own do, and nowhere else."""

import dataclasses
import itertools

import pytest
import torch
from commands import TINY, few_digits, merge, result, run, same, weights
from test_launcher import CPU, TRAIN, batches, launcher, member, same_state, teacher, train

import methods
from benchmarks import models, protocol
from benchmarks.config import Device, Optimizer, TrainConfig
from benchmarks.data import Batch
from benchmarks.training import compiling
from benchmarks.training.build import frozen, place
from benchmarks.training.compiling import objection
from benchmarks.training.step import autocast, teacher_features

NEEDS = frozenset({"stages", "preacts", "final"})
FAMILIES = ("vgg8", "wrn_16_1", "resnet8x4", "MobileNetV2", "ShuffleV1", "ShuffleV2")


def network(name="resnet8"):
    torch.manual_seed(0)
    return place(models.create(name, 10), CPU)


def images(count=8):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 32, 32, generator=generator).to(memory_format=torch.channels_last)


def precision(bf16=False):
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16)


def assert_compiles(network, bf16):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert objection(network, images(), NEEDS, precision(bf16)) is None
    assert same(network.state_dict(), before)


def test_a_compiled_student_shows_and_learns_the_same():
    assert_compiles(network(), bf16=False)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_compiled_networks_of_all_families(name, bf16):
    assert_compiles(network(name), bf16)
    assert_compiles(frozen(network(name)), bf16)


# What compilers do wrong


def scaled(shown, part, factor):
    return dataclasses.replace(shown, **{part: getattr(shown, part) * factor})


def overlearning(shown):
    """The right values with three times the gradient."""
    logits = shown.logits
    return dataclasses.replace(shown, logits=3 * logits - 2 * logits.detach())


def failing(shown):
    raise RuntimeError("no kernels today\nnor tomorrow")


WRONG = {
    "logits are off": lambda shown: scaled(shown, "logits", 1.1),
    "embeddings are off": lambda shown: scaled(shown, "embedding", float("nan")),
    "maps are off": lambda shown: dataclasses.replace(shown, stages=tuple(each.abs() + 1 for each in shown.stages)),
    "gradients are off": overlearning,
    "no kernels today": failing,
}


def compiles_wrongly(monkeypatch, harm):
    """Let compiling a network do harm to what it shows."""
    monkeypatch.setattr(compiling, "_compiled", lambda: lambda *args: harm(compiling._look(*args)))


@pytest.mark.parametrize(("reason", "harm"), WRONG.items(), ids=WRONG)
def test_wrong_kernels_are_objected_to(monkeypatch, reason, harm):
    compiles_wrongly(monkeypatch, harm)
    assert reason in objection(network(), images(), NEEDS, precision())


def test_rounding_is_not_objected_to(monkeypatch):
    compiles_wrongly(monkeypatch, lambda shown: scaled(shown, "logits", 1.001))
    assert objection(network(), images(), NEEDS, precision()) is None


def test_a_teacher_is_judged_by_what_it_shows(monkeypatch):
    compiles_wrongly(monkeypatch, overlearning)
    assert objection(frozen(network()), images(), NEEDS, precision()) is None


# In training


@pytest.fixture
def looks(monkeypatch):
    """What compiled kernels, torch's own in their place, are used for: the size of a batch, and if a student's."""
    found = []

    def told(network, images, needs):
        found.append((len(images), network.training))
        return compiling._look(network, images, needs)

    monkeypatch.setattr(compiling, "_compiled", lambda: told)
    return found


def compiling_launcher(said):
    launch = launcher(said=said)
    launch.compiles = True
    return launch


def test_a_training_does_without_wrong_kernels_and_says_why(monkeypatch):
    compiles_wrongly(monkeypatch, overlearning)
    own, compiled, said = member("kd"), member("kd"), []
    train([own], launcher())
    train([compiled], compiling_launcher(said))
    (note,) = said
    assert "torch's own kernels, not compiled ones: the student: its gradients are off by" in note
    assert same_state(own.state(0), compiled.state(0))


@pytest.mark.parametrize("name", ["none", "at", "mlkd", "ft"])
def test_whole_batches_are_computed_by_compiled_kernels_and_short_ones_are_not(looks, name):
    own, compiled, said = member(name), member(name), []
    train([own], launcher())
    train([compiled], compiling_launcher(said))
    assert not said
    assert {size for size, _ in looks} == {TRAIN.batch_size, compiled.num_views * TRAIN.batch_size}
    assert len(looks) > 4
    assert same_state(own.state(0), compiled.state(0))


def test_a_run_with_compiled_kernels_learns_the_same(tmp_path, teacher_root):
    words = merge(TINY, ["methods=[none,aftkd]", f"teacher.root={teacher_root}"])
    with few_digits():
        for compiles in ("true", "false"):
            assert run(*words, f"train.compile={compiles}", f"output={tmp_path / compiles}") == 0
    for label in ("none", "aftkd"):
        compiled, own = (weights(tmp_path / each, label) for each in ("true", "false"))
        for name, tensor in own.items():
            torch.testing.assert_close(compiled[name], tensor, rtol=0.02, atol=0.02)
        history = [result(tmp_path / each, label)["history"][-1]["train/loss"] for each in ("true", "false")]
        assert history[0] == pytest.approx(history[1], rel=0.02)


def test_a_result_says_what_it_did_without(tmp_path, teacher_root, monkeypatch):
    compiles_wrongly(monkeypatch, overlearning)
    words = merge(
        TINY, ["methods=[kd]", f"teacher.root={teacher_root}", f"output={tmp_path}", "train.compile=true"]
    )
    with few_digits():
        assert run(*words) == 0
    (notice,) = result(tmp_path, "kd")["notices"]
    assert "not compiled ones" in notice


# Where it is done


@pytest.mark.parametrize("name", methods.available())
def test_what_is_compiled_learns_as_a_whole(name):
    """Of what no loss reaches, compiled kernels give zeros for gradients, and weight decay acts."""
    each = member(name)
    (draws,) = itertools.islice(batches().epoch(0, num_views=each.num_views), 1)
    batch = Batch.join([batches().batch(draw) for draw in draws])
    shown = teacher_features(teacher(), each.needs, batch, autocast(TRAIN, CPU))
    losses, _ = each.losses(batch, shown, autocast(TRAIN, CPU))
    gradients = torch.autograd.grad(losses.sum(), list(each.network.parameters()), allow_unused=True)
    assert each.reaches_all <= all(gradient is not None for gradient in gradients)
    assert each.reaches_all == (name != "simkd")


@pytest.mark.parametrize(
    ("name", "settings"), [("simkd", {}), ("at", {"weights": {"ce": 0.0, "kd": 0.0, "at": 1.0}})], ids=str
)
def test_a_student_that_does_not_learn_as_a_whole_is_not_compiled_and_its_teacher_is(looks, name, settings):
    train([member(name, **settings)], compiling_launcher([]))
    assert {learning for _, learning in looks} == {False}


@pytest.mark.parametrize(
    ("changes", "compiles"),
    [
        ({}, True),
        ({"epochs": 2}, False),
        ({"max_steps": 100}, False),
        ({"deterministic": True}, False),
        ({"device": Device.cpu}, False),
        ({"optimizer": Optimizer.dot}, False),
    ],
    ids=str,
)
def test_where_compiling_repays_itself(monkeypatch, changes, compiles):
    monkeypatch.setattr(protocol, "has_gpu_compiler", lambda: True)
    config = dataclasses.replace(TrainConfig(epochs=240, device=Device.cuda), **changes)
    assert protocol.pays_to_compile(config, 50_000) == compiles
    monkeypatch.setattr(protocol, "has_gpu_compiler", lambda: False)
    assert not protocol.pays_to_compile(config, 50_000)
