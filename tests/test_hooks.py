"""The hooks by which a method asks more of the harness than a loss: whole runs on a configuration of seconds."""

import contextlib
import signal

import pytest
import torch
from commands import InjectedConfig, injected, result, same, weights, without_times

from benchmarks import models
from benchmarks.display import Display
from methods import Method


@pytest.fixture
def output(tmp_path):
    return tmp_path / "runs"


@contextlib.contextmanager
def interrupted_at(step):
    """Within it every training gets SIGTERM at a step."""
    original = Display.on_step

    def on_step(self, done):
        original(self, done)
        if done == step:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Display, "on_step", on_step)
        yield


class Looking(Method[InjectedConfig]):
    """Pulls the student's classifier output towards the teacher's bias, which only `prepare` can see."""

    needs = frozenset({"logits"})

    def __init__(self, config, context):
        super().__init__(config, context)
        self.register_buffer("bias", torch.zeros(context.num_classes))
        self.register_buffer("seen", torch.zeros(()))

    def prepare(self, teacher, student):
        self.bias.copy_(teacher.head.bias)
        self.seen.fill_(student.head.weight.detach().square().sum())

    def forward(self, student, teacher, target, index):
        return {"injected": (student.logits - self.bias).square().mean() + 0 * self.seen}


def test_a_method_looks_at_both_networks_once(distil, teacher_root, output, monkeypatch):
    looks = []
    original = Looking.prepare

    def prepare(self, teacher, student):
        original(self, teacher, student)
        frozen = not teacher.training and not any(p.requires_grad for p in teacher.parameters())
        looks.append((teacher.head.bias.clone(), student is not teacher, frozen))

    monkeypatch.setattr(Looking, "prepare", prepare)
    with injected(Looking):
        assert distil("methods=[injected]") == 0
    (rehearsed, *_), (bias, two, frozen) = looks  # on throwaway copies, then in earnest
    (stored,) = teacher_root.rglob("teacher.safetensors")
    from benchmarks import checkpoints

    assert torch.equal(bias, checkpoints.read(stored).state["fc.bias"])
    assert not torch.equal(bias, rehearsed)
    assert two
    assert frozen


@pytest.mark.parametrize("name", models.available())
def test_a_networks_head_makes_its_logits(name):
    network = models.create(name, 7).eval()
    with torch.no_grad():
        features = network.features(torch.randn(2, 3, 32, 32))
        assert torch.equal(network.head(features.embedding), features.logits)


class Warming(Method[InjectedConfig]):
    """Its term grows from epoch to epoch."""

    needs = frozenset({"logits"})
    told = ()

    def __init__(self, config, context):
        super().__init__(config, context)
        self.factor = None

    def epoch(self, e):
        type(self).told += (e,)
        self.factor = (e + 1) / 10

    def forward(self, student, teacher, target, index):
        return {"injected": self.factor * (student.logits - teacher.logits).square().mean()}


def test_a_method_is_told_of_every_epoch_and_again_on_resuming(distil, output, tmp_path):
    words = ["methods=[injected,none]", "train.epochs=3", "teacher.epochs=2", "train.milestones=[]"]
    with injected(Warming):
        Warming.told = ()
        assert distil(*words, f"output={tmp_path}/whole") == 0
        assert Warming.told == (0, 0, 1, 2)  # the rehearsal's, then each
        with interrupted_at(5):
            assert distil(*words) == 143
        Warming.told = ()
        assert distil(*words) == 0
        assert Warming.told == (0, 1, 2)
        whole = tmp_path / "whole"
        assert same(weights(output, "injected"), weights(whole, "injected"))
        history = result(output, "injected")["history"]
        assert without_times(history) == without_times(result(whole, "injected")["history"])
