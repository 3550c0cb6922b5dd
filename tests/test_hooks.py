"""The hooks by which a method asks more of the harness than a loss: whole runs on a configuration of seconds."""

import contextlib
import dataclasses
import signal

import pytest
import torch
from commands import (
    TINY,
    InjectedConfig,
    few_digits,
    injected,
    merge,
    result,
    run,
    run_folder,
    same,
    weights,
    without_times,
)
from torch import nn

from benchmarks import models
from benchmarks.data import EvaluationBatches, TrainBatches, load
from benchmarks.display import Display
from benchmarks.stored import load_student
from benchmarks.training.evaluate import evaluate
from methods import Method, Pretraining


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


class Hinted(Method[InjectedConfig]):
    """A stage of two epochs in which the student meets the teacher's last map through a connector."""

    needs = frozenset({"logits"})
    pretraining = Pretraining(part=2 / 3, terms=("hint",), needs=frozenset({"stages"}))

    def __init__(self, config, context):
        super().__init__(config, context)
        self.connector = nn.Conv2d(context.student.stages[-1][0], context.teacher.stages[-1][0], 1)

    def pretrain(self, student, teacher, target, index):
        return {"hint": (self.connector(student.stages[-1]) - teacher.stages[-1]).square().mean()}

    def forward(self, student, teacher, target, index):
        return {"injected": (student.logits - teacher.logits).square().mean()}


class Described(Method[InjectedConfig]):
    """A stage of one epoch without the student: a map learns the teacher's logits, and then is the target."""

    needs = frozenset({"logits", "embedding"})
    pretraining = Pretraining(part=0.01, terms=("match",), needs=needs, student=False, lr=0.2)

    def __init__(self, config, context):
        super().__init__(config, context)
        self.map = nn.Linear(context.teacher.embedding, context.num_classes)

    def pretrain(self, student, teacher, target, index):
        assert student is None
        return {"match": (self.map(teacher.embedding) - teacher.logits).square().mean()}

    def forward(self, student, teacher, target, index):
        with torch.no_grad():
            logits = self.map(teacher.embedding)
        return {"injected": (student.logits - logits).square().mean() + 0 * student.embedding.mean()}


class Twice(Method[InjectedConfig]):
    """Two views of each image, which are to get the same logits."""

    needs = frozenset({"logits"})
    num_views = 2

    def forward(self, student, teacher, target, index):
        assert student.logits.shape[0] == teacher.logits.shape[0] == 2 * len(index.unique())
        first, second = student.logits.chunk(2)
        theirs = teacher.logits.chunk(2)
        return {"injected": (first - theirs[1]).square().mean() + (second - theirs[0]).square().mean()}


class Corrected(Method[InjectedConfig]):
    """Its logits are a map of its own of the embedding, behind a batch norm."""

    needs = frozenset({"logits", "embedding"})

    def __init__(self, config, context):
        super().__init__(config, context)
        self.norm = nn.BatchNorm1d(context.student.embedding)
        self.map = nn.Linear(context.student.embedding, context.num_classes)

    def predict(self, student):
        return dataclasses.replace(student, logits=self.map(self.norm(student.embedding)))

    def forward(self, student, teacher, target, index):
        return {"injected": (student.logits - teacher.logits).square().mean()}


OWN = {"hinted": Hinted, "described": Described, "twice": Twice, "corrected": Corrected}
COHORT = ("none", *OWN, "kd")
WORDS = ("train.epochs=3", "teacher.epochs=2", "train.milestones=[2]")
STEPS = 3  # of an epoch


@pytest.fixture(scope="module")
def own_methods():
    with contextlib.ExitStack() as stack:
        for name, cls in OWN.items():
            stack.enter_context(injected(cls, name))
        yield


@pytest.fixture(scope="module")
def whole(own_methods, teacher_root, tmp_path_factory):
    """A cohort of methods with every hook, undisturbed."""
    output = tmp_path_factory.mktemp("whole")
    with few_digits():
        words = [*WORDS, f"methods=[{','.join(COHORT)}]", f"output={output}", f"teacher.root={teacher_root}"]
        assert run(*merge(TINY, words)) == 0
    return output


def check_equal(output, whole, labels):
    for label in labels:
        ours, theirs = result(output, label), result(whole, label)
        assert same(weights(output, label), weights(whole, label)), label
        assert without_times(ours["history"]) == without_times(theirs["history"])
        assert without_times(ours.get("pretraining", [])) == without_times(theirs.get("pretraining", []))


@pytest.mark.parametrize("name", OWN)
def test_a_method_with_a_hook_alone_is_what_it_is_in_any_cohort(name, distil, output, whole):
    assert distil(f"methods=[{name}]", *WORDS) == 0
    check_equal(output, whole, [name])


@pytest.mark.parametrize(
    "step",
    [STEPS + 2, 2 * STEPS, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, STEPS, 2 * STEPS + 1))],
)
def test_interrupted_in_the_stage_before_and_behind_it(step, distil, output, whole, capsys):
    words = [*WORDS, "methods=[kd,described,hinted]"]
    with interrupted_at(step):
        assert distil(*words) == 143
    assert f"interrupted at step {step};" in capsys.readouterr().out
    assert distil(*words) == 0
    assert f"continued at step {step} of {5 * STEPS}" in capsys.readouterr().out
    check_equal(output, whole, ["kd", "described", "hinted"])


def test_one_that_waited_for_anothers_stage_goes_on_alone(distil, output, whole):
    with interrupted_at(2):
        assert distil(*WORDS, "methods=[kd,hinted]") == 143
    assert distil(*WORDS, "methods=[kd]") == 0
    assert distil(*WORDS, "methods=[hinted,described]") == 0
    check_equal(output, whole, ["kd", "hinted", "described"])


def test_the_stage_before_is_recorded_with_its_cost(whole, own_methods):
    for label, epochs in (("hinted", 2), ("described", 1), ("kd", 0)):
        content = result(whole, label)
        rows = content.get("pretraining", [])
        assert [row["epoch"] for row in rows] == [*range(1, epochs + 1)]
        assert [row["epoch"] for row in content["history"]] == [1, 2, 3]
        assert content["summary"].get("pretraining/epochs", 0) == epochs
        spent = content["summary"].get("pretraining/time_s", 0.0)
        assert spent == pytest.approx(sum(row["time/epoch_s"] for row in rows))
        assert all("test/top1" not in row and "train/top1" not in row for row in rows)
        assert not any("hint" in key or "match" in key for row in content["history"] for key in row)
    assert [row["lr"] for row in result(whole, "hinted")["pretraining"]] == [0.05, 0.05]
    assert [row["lr"] for row in result(whole, "described")["pretraining"]] == [0.2]
    losses = [row["train/loss/hint"] for row in result(whole, "hinted")["pretraining"]]
    assert losses[1] < losses[0]


class Moments(Display):
    """Notes the student's state at each step."""

    seen = ()

    def on_start(self, members, step, num_steps):
        super().on_start(members, step, num_steps)
        self.member = members[0]

    def on_step(self, step):
        super().on_step(step)
        type(self).seen += ({name: tensor.clone() for name, tensor in self.member.classifier.state_dict().items()},)


@pytest.mark.parametrize("name", ["hinted", "described"])
def test_what_learns_in_which_stage(name, distil, own_methods, monkeypatch):
    """Before: what the hint reaches, the classifier not even by weight decay. Afterwards: all but the connector."""
    monkeypatch.setattr("benchmarks.workbench.Display", Moments)
    Moments.seen = ()
    assert distil(f"methods=[{name}]", *WORDS) == 0
    states = Moments.seen
    before = (2 if name == "hinted" else 1) * STEPS
    assert len(states) == before + 3 * STEPS

    def moved(first, last, prefix):
        return [
            not torch.equal(states[first][key], states[last][key]) for key in states[0] if key.startswith(prefix)
        ]

    assert any(moved(0, before - 1, "network.layer")) == (name == "hinted")
    assert not any(moved(0, before - 1, "network.fc."))
    assert all(moved(0, before - 1, "method.connector" if name == "hinted" else "method.map"))
    assert not any(moved(before - 1, -1, "method."))
    assert all(moved(before - 1, -1, "network.fc."))


def test_views_are_of_the_same_images(tmp_path):
    with few_digits():
        batches = TrainBatches(load("digits", tmp_path, tmp_path, 0.0), 4, 0, torch.device("cpu"))
    first, second = (next(batches.epoch(1, view=view)) for view in range(2))
    assert torch.equal(first.index, second.index)
    assert not torch.equal(first.images, second.images)
    again = next(batches.epoch(1))
    assert torch.equal(first.images, again.images)


def figures(classifier, folder):
    with few_digits():
        batches = EvaluationBatches(load("digits", folder, folder, 0.0), torch.device("cpu"))
    return evaluate(classifier, batches, torch.autocast("cpu", enabled=False))


def test_a_method_in_prediction_is_evaluated_and_kept_with_its_student(distil, whole):
    """The run's folder is enough to get the reported accuracy again."""
    folder = run_folder(whole, "corrected")
    assert (folder / "method.safetensors").is_file()
    assert not (run_folder(whole, "kd") / "method.safetensors").exists()
    for label in ("corrected", "kd"):
        student = load_student(run_folder(whole, label))
        row = result(whole, label)["history"][-1]
        assert figures(student, whole) == {name: row[f"test/{name}"] for name in ("loss", "top1", "top5")}
        assert not student.training
    bare = models.create("resnet8", 10)
    bare.load_state_dict(weights(whole, "corrected"))
    assert figures(bare, whole)["loss"] != result(whole, "corrected")["history"][-1]["test/loss"]
