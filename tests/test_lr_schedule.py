"""The learning rate's schedules: torch's own as oracles, and what a schedule belongs to."""

import dataclasses
import itertools
import math
import signal

import pytest
import torch
from commands import interrupted_at, result, run_folders, same, weights, without_times
from lines import SMALL, run_of, student_of
from students import SHORT, TRAIN, School
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from benchmarks import metrics, teacher
from benchmarks.cli import main
from benchmarks.config import LrSchedule
from benchmarks.identity import run_id
from benchmarks.plain_loop import PlainLoop
from benchmarks.teachers import TeacherPlan

COSINE = dataclasses.replace(TRAIN, schedule=LrSchedule.cosine, milestones=[])


def rates_of(train, folder):
    """Of a cohort's epochs, before it trains."""
    students = School(train, num_train=8, classes=5).cohort(["none"], folder)
    return [students.lr(epoch) for epoch in range(train.epochs)]


def rates_by_torch(train, schedule, *arguments):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=train.lr)
    schedule, rates = schedule(optimizer, *arguments), []
    for _ in range(train.epochs):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 240])
def test_cosine_is_that_of_torch_and_of_its_formula(epochs, tmp_path):
    train = dataclasses.replace(COSINE, epochs=epochs)
    rates = rates_of(train, tmp_path)
    assert rates == pytest.approx(rates_by_torch(train, CosineAnnealingLR, epochs), rel=1e-9)
    assert rates == pytest.approx([0.05 * math.cos(math.pi * e / epochs / 2) ** 2 for e in range(epochs)])
    assert rates[0] == train.lr
    assert all(earlier > later > 0 for earlier, later in itertools.pairwise(rates))


@pytest.mark.parametrize("milestones", [[], [1], [150, 180, 210]])
def test_step_is_that_of_torch(milestones, tmp_path):
    train = dataclasses.replace(TRAIN, epochs=240, milestones=milestones)
    assert rates_of(train, tmp_path) == pytest.approx(rates_by_torch(train, MultiStepLR, milestones, 0.1))


@pytest.mark.parametrize("train", [TRAIN, COSINE], ids=lambda train: train.schedule)
def test_a_stage_before_the_main_training_has_the_rate_that_this_begins_with(train, tmp_path):
    students = School(train, num_train=8, classes=5).cohort(["ab", "none"], tmp_path)
    students.run()
    before, after = students.seats[0].member.pretraining_history, students.seats[0].member.history
    assert [row[metrics.LR] for row in before] == [train.lr]
    assert [row[metrics.LR] for row in after] == pytest.approx(rates_of(train, tmp_path))


@pytest.mark.parametrize("train", [TRAIN, COSINE], ids=lambda train: train.schedule)
def test_the_plain_loop_has_the_same_rates(train, tmp_path):
    train = dataclasses.replace(train, epochs=4, max_steps=1)
    student = dataclasses.replace(student_of("method=none", *SMALL), train=train)
    loop = PlainLoop(student, SHORT.specs, SHORT.data, None, torch.device("cpu"), num_workers=0)
    rates = []
    for _ in range(train.epochs):
        rates.append(loop.optimizer.param_groups[0]["lr"])
        loop.run_epoch()
    assert rates == pytest.approx(rates_of(train, tmp_path))


# Commands

LONGER = ("train.epochs=3", "teacher.epochs=2")  # under the teacher that all tests share
WORDS = ("train.schedule=cosine", *LONGER)


def test_a_cohort_is_what_each_is_alone_and_survives_interruption(distil, output, tmp_path):
    assert distil(*WORDS, "methods=[kd]", f"output={tmp_path}/alone") == 0
    for step in (2, 4, 6):  # within an epoch, within the next, and at an end
        with interrupted_at(step):
            assert distil(*WORDS, "methods=[fitnet,kd]") == 128 + signal.SIGTERM
    assert distil(*WORDS, "methods=[fitnet,kd]") == 0
    assert same(weights(output, "kd"), weights(tmp_path / "alone", "kd"))
    found = result(output, "kd")
    assert without_times(found["history"]) == without_times(result(tmp_path / "alone", "kd")["history"])
    assert [row["lr"] for row in found["history"]] == pytest.approx([0.05, 0.0375, 0.0125])
    train = found["config"]["train"]
    assert (train["schedule"], train["milestones"]) == ("cosine", [])
    assert "train.schedule=cosine" in found["config"]["command"]
    assert "milestones" not in found["config"]["command"]
    assert distil("methods=[kd]", *LONGER, "train.schedule=step") == 0
    assert len(run_folders(output, "kd")) == 2


@pytest.mark.parametrize("word", ["train.milestones=[1]", "train.milestones=[]", "train.decay=0.1"])
def test_what_acts_in_steps_alone_is_refused_under_cosine(word, distil, output, capsys):
    assert distil(*WORDS, "method=kd", word) == 2
    assert f"{word} has no effect: it acts only with train.schedule=step" in capsys.readouterr().err
    own = ("network=resnet8", "data=digits", "train.schedule=cosine", f"output={output}")
    assert main(teacher.COMMAND, [*own, word]) == 2
    assert f"{word} has no effect" in capsys.readouterr().err
    assert not output.exists()


def test_another_schedule_is_another_run_and_no_milestones_make_it_others():
    line = ("method=kd", *SMALL)
    of_steps, cosine = student_of(*line), student_of(*line, "train.schedule=cosine")
    assert run_id(of_steps, None) != run_id(cosine, None)
    assert run_id(student_of(*line, "train.schedule=step"), None) == run_id(of_steps, None)
    assert (cosine.train.milestones, cosine.train.decay) == ([], 0.1)


def test_a_runs_teacher_is_trained_as_ever_and_one_of_another_schedule_is_another():
    plan = TeacherPlan.of(run_of())
    assert TeacherPlan.of(run_of("train.schedule=cosine")).folder == plan.folder
    cosine = dataclasses.replace(plan, train=dataclasses.replace(plan.train, schedule=LrSchedule.cosine))
    flat, cosine_flat = (
        dataclasses.replace(each, train=dataclasses.replace(each.train, milestones=[])) for each in (plan, cosine)
    )
    assert len({each.folder for each in (plan, cosine, flat, cosine_flat)}) == 4
