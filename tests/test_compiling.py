"""Compiled kernels are used where they do what torch's own do, and nowhere else."""

import dataclasses

import pytest
import torch
from commands import TINY, few_digits, merge, result, run, same, weights
from test_launcher import CPU, TRAIN, launcher, member, same_state, teacher, train

from benchmarks import models, protocol
from benchmarks.config import Device, TrainConfig
from benchmarks.training import compiling
from benchmarks.training.build import frozen, place
from benchmarks.training.compiling import look, objection

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
    compiles_wrongly(monkeypatch, lambda shown: scaled(shown, "logits", 1.01))
    assert objection(network(), images(), NEEDS, precision()) is None


def test_a_teacher_is_judged_by_what_it_shows(monkeypatch):
    compiles_wrongly(monkeypatch, overlearning)
    assert objection(frozen(network()), images(), NEEDS, precision()) is None


def test_memory_that_is_too_small_is_no_objection(monkeypatch):
    def full(shown):
        raise torch.OutOfMemoryError("CUDA out of memory")

    compiles_wrongly(monkeypatch, full)
    with pytest.raises(torch.OutOfMemoryError):
        objection(network(), images(), NEEDS, precision())


# In training


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
def test_whole_batches_are_computed_by_compiled_kernels_and_short_ones_are_not(monkeypatch, name):
    """By kernels that are torch's own, to tell."""
    sizes = []

    def told(network, images, needs):
        sizes.append(len(images))
        return compiling._look(network, images, needs)

    monkeypatch.setattr(compiling, "_compiled", lambda: told)
    own, compiled, said = member(name), member(name), []
    train([own], launcher())
    train([compiled], compiling_launcher(said))
    assert not said
    assert set(sizes) == {TRAIN.batch_size, compiled.num_views * TRAIN.batch_size}
    assert len(sizes) > 4
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


# Where it is done


def test_looking_ahead_and_at_a_batch_use_the_same_kernels():
    shown = [look(teacher(), images(), frozenset(needs)) for needs in ({"logits"}, {"logits", "embedding"})]
    assert torch.equal(shown[0].logits, shown[1].logits)


@pytest.mark.parametrize(
    ("changes", "compiles"),
    [
        ({}, True),
        ({"epochs": 2}, False),
        ({"max_steps": 100}, False),
        ({"deterministic": True}, False),
        ({"device": Device.cpu}, False),
    ],
    ids=str,
)
def test_where_compiling_repays_itself(monkeypatch, changes, compiles):
    monkeypatch.setattr(protocol, "has_gpu_compiler", lambda: True)
    config = dataclasses.replace(TrainConfig(epochs=240, device=Device.cuda), **changes)
    assert protocol.pays_to_compile(config, 50_000) == compiles
    monkeypatch.setattr(protocol, "has_gpu_compiler", lambda: False)
    assert not protocol.pays_to_compile(config, 50_000)
