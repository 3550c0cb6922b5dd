"""How students are put together when a command goes on, and what others may ask of a distillation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from commands import PAIR, TINY, InjectedConfig, few_digits, injected, merge
from filelock import FileLock
from helpers import TARGETS, student_features, teacher_features

import methods
from benchmarks import models, weight_files
from benchmarks import run as run_command
from benchmarks.cli import compose_config
from benchmarks.console import make_console
from benchmarks.data import load
from benchmarks.distillation import Distillation, by_shared_step
from benchmarks.errors import RunFailed
from benchmarks.protocol import resolve
from benchmarks.workbench import Workbench
from methods import FeatureSpec, Method


def job(folder, name, steps):
    path = folder / name
    path.mkdir()
    for step in steps:
        (path / f"checkpoint-{step:08d}.pt").touch()
    return SimpleNamespace(name=name, folder=SimpleNamespace(path=path))


def test_students_go_on_together_where_they_share_a_step(tmp_path):
    jobs = [
        job(tmp_path, "kd", [40, 60]),  # written before the kill
        job(tmp_path, "at", [40]),
        job(tmp_path, "crd", [20]),  # interrupted on its own
        job(tmp_path, "aftkd", []),  # not begun
    ]
    groups = [[each.name for each in group] for group in by_shared_step(jobs)]
    assert groups == [["kd", "at"], ["crd"], ["aftkd"]]


def test_nobody_is_left_out(tmp_path):
    jobs = [job(tmp_path, str(k), steps) for k, steps in enumerate([[1, 2], [2, 3], [3, 4], [9], []])]
    assert sorted(each.name for group in by_shared_step(jobs) for each in group) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(("name", "term"), [("at", "at"), ("fitnet", "hint"), ("crd", "crd"), ("aftkd", "afb")])
def test_a_method_without_its_own_term_owns_nothing(name, term):
    student, teacher = (FeatureSpec.of(features()) for features in (student_features, teacher_features))
    method = methods.create(name, student, teacher, num_classes=4, targets=TARGETS, weights={term: 0.0, "kd": 1.0})
    assert method.terms == ("ce", "kd")
    assert not list(method.parameters())
    assert not list(method.buffers())


def test_checkpoints_older_than_num_batches_tracked(tmp_path):
    network = models.create("resnet8", 10)
    old = {key: value for key, value in network.state_dict().items() if "num_batches_tracked" not in key}
    torch.save({"model": old, "accuracy": torch.tensor(61.5)}, tmp_path / "ckpt_epoch_240.pth")
    checkpoint = weight_files.read(tmp_path / "ckpt_epoch_240.pth")
    assert checkpoint.claimed_top1 == 61.5
    loaded, images = weight_files.load_network("resnet8", 10, checkpoint).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(images), network.eval()(images))


# --- what others ask of a distillation


@pytest.fixture
def distillation(tmp_path, teacher_root):
    """Makes one on a tiny configuration."""

    def make(*words, **options):
        base = [*TINY, f"output={tmp_path / 'runs'}", f"teacher.root={teacher_root}"]
        run, variants = resolve(*compose_config(run_command.COMMAND, merge(base, words)))
        return Distillation(run, variants, make_console(), **options)

    with few_digits():
        yield make


def locked(made, label):
    """The lock of one of its runs."""
    (folder,) = (job.folder.path for job in made.jobs() if job.config.label == label)
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


def trained(made):
    """Its students, trained as a caller from Python does."""
    return made.train(Workbench(load(made.run.data), made.device, made.console, made.run.checkpoint))


@pytest.mark.parametrize(("method", "said"), [("kd", True), ("none", False)])
def test_a_teacher_of_fewer_epochs_is_announced_where_there_is_one(distillation, method, said, capsys):
    distillation(f"method={method}", "train.epochs=6").announce()
    assert ("teacher.epochs=6 " in capsys.readouterr().out) == said


def test_runs_of_other_processes_can_be_left_to_them(distillation, tmp_path):
    made = distillation("methods=[none,kd]", leave_taken=True)
    with locked(made, "none"):
        none, kd = trained(made)
    assert (none.taken, none.result, none.failure) == (True, None, None)
    assert not kd.taken
    assert kd.result["status"] == "complete"
    assert not list((tmp_path / "runs" / PAIR / "none").rglob("result.json"))


def test_variants_train_under_their_own_loss_schedule(distillation):
    own = "{name: kd, label: waning, loss: {schedule: linear, end: 0.5}}"
    jobs = trained(distillation(f"methods=[kd,{own}]"))
    constant, waning = (job.result["history"][-1]["train/weight/kd"] for job in jobs)
    assert constant == pytest.approx(0.9)
    assert 0.45 <= waning < 0.9 * 0.75
    recorded = [job.result["config"] for job in jobs]
    assert [config["loss"]["schedule"] for config in recorded] == ["fixed", "linear"]
    assert len({config["id"] for config in recorded}) == 2


class Idle(Method[InjectedConfig]):
    """One of its parameters learns nothing, which the rehearsal refuses."""

    needs = frozenset({"logits"})

    def __init__(self, config, context):
        super().__init__(config, context)
        self.idle = torch.nn.Linear(3, 3)

    def forward(self, student, teacher, target, index):
        return {"injected": student.logits.square().mean()}


def test_an_error_names_the_student_that_the_others_could_go_on_without(distillation):
    with injected(Idle), pytest.raises(RunFailed) as caught:
        distillation("methods=[none,injected,kd]")()
    assert caught.value.student == "injected"
