"""The hooks by which a method asks more of the harness than a loss: whole runs on a configuration of seconds."""

from pathlib import Path

import pytest
import torch
from commands import (
    TINY,
    InjectedConfig,
    few_digits,
    injected,
    interrupted_at,
    merge,
    result,
    run,
    run_folder,
    same,
    weights,
    without_times,
)
from helpers import epoch_of
from safetensors.torch import load_file

from benchmarks import models
from benchmarks.config import DataConfig, plain
from benchmarks.costs import cost
from benchmarks.data import INFO, EvaluationBatches, TrainBatches, View, load
from benchmarks.display import Display
from benchmarks.stored import load_student
from benchmarks.teachers import WEIGHTS
from benchmarks.training import evaluate
from methods import Method


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
    from benchmarks import weight_files

    assert torch.equal(bias, weight_files.read(stored).state["fc.bias"])
    assert not torch.equal(bias, rehearsed)
    assert two
    assert frozen


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
    words = ["methods=[injected]", "train.epochs=3", "teacher.epochs=2", "train.milestones=[]"]
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


# Two epochs before the main training, one for the others that have a stage there.
AB, SSKD = "{name: ab, pretraining: 0.67}", "{name: sskd, pretraining: 0.67}"
NEW = {name: name for name in ("fsp", "ft", "ofd", "simkd", "ctkd", "mlkd")} | {"ab": AB, "sskd": SSKD}
WORDS = ("train.epochs=3", "teacher.epochs=2", "train.milestones=[2]")
STEPS = 3  # of an epoch


@pytest.fixture(scope="module")
def whole(teacher_root, tmp_path_factory):
    """A cohort of methods with every hook, undisturbed."""
    output = tmp_path_factory.mktemp("whole")
    with few_digits():
        methods = f"methods=[none,{','.join(NEW.values())},kd]"
        words = [*WORDS, methods, f"output={output}", f"teacher.root={teacher_root}"]
        assert run(*merge(TINY, words)) == 0
    return output


def check_equal(output, whole, labels):
    for label in labels:
        ours, theirs = result(output, label), result(whole, label)
        assert same(weights(output, label), weights(whole, label)), label
        assert without_times(ours["history"]) == without_times(theirs["history"])
        assert without_times(ours.get("pretraining", [])) == without_times(theirs.get("pretraining", []))


@pytest.mark.parametrize("name", NEW)
def test_a_method_with_a_hook_alone_is_what_it_is_in_any_cohort(name, distil, output, whole):
    assert distil(f"methods=[{NEW[name]}]", *WORDS) == 0
    check_equal(output, whole, [name])


def test_interrupted_in_the_stage_before_behind_it_and_in_the_main_training(distil, output, whole, capsys):
    words = [*WORDS, f"methods=[kd,ft,{AB},mlkd,simkd,{SSKD}]"]
    for step in (STEPS + 2, 2 * STEPS, 3 * STEPS + 1):
        with interrupted_at(step):
            assert distil(*words) == 143
        assert f"interrupted at step {step} and" in capsys.readouterr().out
    assert distil(*words) == 0
    assert f"continued at step {step} of {5 * STEPS}" in capsys.readouterr().out
    check_equal(output, whole, ["kd", "ft", "ab", "mlkd", "simkd", "sskd"])


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 5 * STEPS + 1))
def test_interrupted_at_any_step(step, distil, output, whole):
    words = [*WORDS, f"methods=[fsp,{AB},ofd,ctkd]"]
    with interrupted_at(step):
        assert distil(*words) == 143
    assert distil(*words) == 0
    check_equal(output, whole, ["fsp", "ab", "ofd", "ctkd"])


def test_one_that_waited_for_anothers_stage_goes_on_alone(distil, output, whole):
    with interrupted_at(2):
        assert distil(*WORDS, f"methods=[kd,{AB}]") == 143
    assert distil(*WORDS, "methods=[kd]") == 0
    assert distil(*WORDS, f"methods=[{AB},ft]") == 0
    check_equal(output, whole, ["kd", "ab", "ft"])


def test_the_stage_before_is_recorded_with_its_cost(whole):
    for label, epochs in (("ab", 2), ("sskd", 2), ("fsp", 1), ("ft", 1), ("kd", 0)):
        content = result(whole, label)
        rows = content.get("pretraining", [])
        assert [row["epoch"] for row in rows] == [*range(1, epochs + 1)]
        assert [row["epoch"] for row in content["history"]] == [1, 2, 3]
        assert content["summary"].get("pretraining/epochs", 0) == epochs
        spent = content["summary"].get("pretraining/time_s", 0.0)
        assert spent == pytest.approx(sum(row["time/epoch_s"] for row in rows))
        assert all("test/top1" not in row and "train/top1" not in row for row in rows)
        before = {key for row in rows for key in row if key.startswith("train/loss/")}
        assert not any(before & row.keys() for row in content["history"])
    assert [row["lr"] for row in result(whole, "ab")["pretraining"]] == [0.05, 0.05]
    assert [row["lr"] for row in result(whole, "ft")["pretraining"]] == [0.01]
    assert [row["lr"] for row in result(whole, "sskd")["pretraining"]] == pytest.approx([0.05, 0.005])
    first, second = (row["train/loss/ab"] for row in result(whole, "ab")["pretraining"])
    assert second < first


class Moments(Display):
    """Notes the student's state at each step."""

    seen = ()

    def on_start(self, members, step, num_steps):
        super().on_start(members, step, num_steps)
        self.member = members[0]

    def on_step(self, step):
        super().on_step(step)
        type(self).seen += ({name: tensor.clone() for name, tensor in self.member.classifier.state_dict().items()},)


@pytest.mark.parametrize("name", ["ab", "ft"])
def test_what_learns_in_which_stage(name, distil, monkeypatch):
    """Before: what the stage's loss reaches, and the rest not even by weight decay. Afterwards: the rest, too."""
    monkeypatch.setattr("benchmarks.workbench.Display", Moments)
    Moments.seen = ()
    assert distil(f"methods=[{NEW[name]}]", *WORDS) == 0
    states = Moments.seen
    before = STEPS * (2 if name == "ab" else 1)
    assert len(states) == before + 3 * STEPS

    def moved(first, last, prefix):
        keys = [key for key in states[0] if key.startswith(prefix) and key.endswith("weight")]
        assert keys
        return [not torch.equal(states[first][key], states[last][key]) for key in keys]

    assert all(moved(0, before - 1, "network.layer")) == any(moved(0, before - 1, "network.")) == (name == "ab")
    assert not any(moved(0, before - 1, "network.fc."))
    assert all(moved(before - 1, -1, "network."))
    if name == "ft":
        assert all(moved(0, before - 1, "method.paraphraser"))
        assert not any(moved(0, before - 1, "method.translator"))
        assert not any(moved(before - 1, -1, "method.paraphraser"))
        assert all(moved(before - 1, -1, "method.translator"))


def test_views_are_of_the_same_images():
    with few_digits():
        batches = TrainBatches(load(DataConfig("digits")), 4, 0, torch.device("cpu"))
    first, second = (next(epoch_of(batches, 1, view=View(k))) for k in range(2))
    assert torch.equal(first.index, second.index)
    assert not torch.equal(first.images, second.images)
    again = next(epoch_of(batches, 1))
    assert torch.equal(first.images, again.images)


def figures(classifier, teacher):
    with few_digits():
        batches = EvaluationBatches(load(DataConfig("digits")), torch.device("cpu"))
    as_it_is = torch.autocast("cpu", enabled=False)
    logits = evaluate.logits_of([classifier, teacher], batches, as_it_is)
    return evaluate.figures(logits[0], batches.split.targets, logits[1])


def stored_teacher(output, label):
    """The network that taught a run."""
    told = result(output, label)["config"]["teacher"]
    network = models.create(told["network"], 10)
    network.load_state_dict(load_file(Path(told["source"]) / WEIGHTS))
    return network


@pytest.mark.parametrize(("label", "status"), [("kd", 0), ("simkd", 2)])
def test_a_student_can_teach_the_next_if_it_is_complete_by_itself(label, status, distil, whole, capsys):
    """As teacher assistants and born-again networks do."""
    file = run_folder(whole, label) / "student.safetensors"
    top1 = result(whole, label)["summary"]["test/top1_last"]
    assert distil("method=kd", "pair.teacher=resnet8", f"teacher.checkpoint={file}") == status
    said = "".join(capsys.readouterr())
    assert (f"{file}: {top1:.2f} % test top-1" in said) == (status == 0)
    assert ("predicts through its method" in said) == (status == 2)


def test_a_method_in_prediction_is_evaluated_and_kept_with_its_student(distil, whole):
    """The run's folder is enough to get the reported accuracy again."""
    folder = run_folder(whole, "simkd")
    assert (folder / "method.safetensors").is_file()
    assert not (run_folder(whole, "kd") / "method.safetensors").exists()
    for label in ("simkd", "kd"):
        student = load_student(str(run_folder(whole, label)))
        row = result(whole, label)["history"][-1]
        found = figures(student, stored_teacher(whole, label))
        assert found == {
            name.removeprefix("test/"): value for name, value in row.items() if name.startswith("test/")
        }
        assert found["teacher_kl"] > 0
        assert not student.training
    costs = {label: result(whole, label)["config"]["costs"]["student"] for label in ("simkd", "kd")}
    assert costs["kd"] == plain(cost("resnet8", INFO["digits"]))
    projector = (64 * 32 + 2 * 32) + (32 * 32 * 9 + 2 * 32) + (32 * 64 + 2 * 64)
    assert costs["simkd"]["parameters"] - costs["kd"]["parameters"] == projector
    assert costs["simkd"]["macs"] - costs["kd"]["macs"] == 8 * 8 * (64 * 32 + 32 * 32 * 9 + 32 * 64)
    bare = models.create("resnet8", 10)
    bare.load_state_dict(weights(whole, "simkd"))
    assert figures(bare, bare)["loss"] != result(whole, "simkd")["history"][-1]["test/loss"]
