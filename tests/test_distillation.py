"""How students are put together when a command goes on, and what a method without its own term is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from helpers import TARGETS, student_features, teacher_features

import methods
from benchmarks import checkpoints, models
from benchmarks.distillation import by_shared_step
from methods import FeatureSpec


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
    checkpoint = checkpoints.read(tmp_path / "ckpt_epoch_240.pth")
    assert checkpoint.claimed_top1 == 61.5
    loaded, images = checkpoints.load_network("resnet8", 10, checkpoint).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(images), network.eval()(images))
