"""Runs that are interrupted or killed, and what the same command makes of what they left."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from commands import (
    TINY,
    at_step,
    few_digits,
    files,
    interrupted_at,
    merge,
    result,
    run,
    run_folder,
    same,
    start,
    weights,
    without_times,
)
from filelock import FileLock

from benchmarks import distillation, recorder
from benchmarks.data.dataset import UPRIGHT, TrainBatches
from benchmarks.errors import RunFailed
from benchmarks.results import locked
from benchmarks.training import cohort
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.launcher import Launcher

COHORT = (
    "methods=[crd,aftkd]",
    "train.epochs=3",
    "train.max_steps=4",
    "train.batch_size=4",
    "train.milestones=[1]",
)
LABELS = ("crd", "aftkd")
NUM_STEPS = 12


@pytest.fixture
def lines(teacher_root):
    (path,) = teacher_root.rglob("teacher.safetensors")
    return [*COHORT, f"teacher.checkpoint={path}"]


@pytest.fixture(scope="module")
def uninterrupted(teacher_root, tmp_path_factory):
    """Weights and history of the same cohort that nothing disturbs."""
    output = tmp_path_factory.mktemp("uninterrupted")
    (path,) = teacher_root.rglob("teacher.safetensors")
    with few_digits():
        assert run(*merge(TINY, [*COHORT, f"teacher.checkpoint={path}", f"output={output}"])) == 0
    return {label: (weights(output, label), without_times(result(output, label)["history"])) for label in LABELS}


def check_equal(output, uninterrupted):
    for label, (state, history) in uninterrupted.items():
        assert without_times(result(output, label)["history"]) == history
        assert same(weights(output, label), state)
        left = files(run_folder(output, label)) - {".lock"}
        assert left == {"result.json", "student.safetensors", "code.json"}


def checkpoints(output, label):
    return sorted(run_folder(output, label).glob("checkpoint-*.pt"))


@pytest.mark.parametrize(
    ("signum", "status", "step"),
    [
        (signal.SIGTERM, 143, 6),  # within an epoch
        (signal.SIGTERM, 143, 8),  # at its last step
        (signal.SIGTERM, 143, NUM_STEPS),
        pytest.param(signal.SIGINT, 130, 6, marks=pytest.mark.slow),
    ],
)
def test_interrupted_at_a_step_and_continued(signum, status, step, distil, lines, output, uninterrupted, capsys):
    handler = signal.getsignal(signum)
    with interrupted_at(step, signum):
        assert distil(*lines) == status
    shown = capsys.readouterr()
    assert f"interrupted at step {step}" in shown.out
    assert "Traceback" not in shown.err
    for label in LABELS:
        assert [path.name for path in checkpoints(output, label)] == [f"checkpoint-{step:08d}.pt"]
        assert not (run_folder(output, label) / "result.json").exists()
    assert signal.getsignal(signum) is handler
    assert distil(*lines) == 0
    assert f"continued at step {step} of {NUM_STEPS}" in capsys.readouterr().out
    check_equal(output, uninterrupted)


def test_interrupted_again_and_again(distil, lines, output, uninterrupted):
    for step in (3, 5, 9):
        with interrupted_at(step):
            assert distil(*lines) == 143
    assert distil(*lines) == 0
    check_equal(output, uninterrupted)


def test_who_diverged_is_noted_at_once_and_not_tried_again(distil, lines, output, capsys):
    words = merge(lines, ["methods=[crd,{name: kd, label: boom, weights: {ce: 1e30}}]"])
    with interrupted_at(10):
        assert distil(*words) == 143
    assert "boom leaves: the loss term" in capsys.readouterr().out
    assert files(run_folder(output, "boom")) == {".lock", "code.json", "failure.json"}
    assert distil(*words) == 1
    shown = capsys.readouterr()
    assert f"continued at step 10 of {NUM_STEPS}" in shown.out
    assert "boom failed before under this code" in shown.out
    assert "boom leaves" not in shown.out
    assert "boom: the loss term" in shown.err
    assert result(output, "crd")["status"] == "complete"
    assert distil(*words, "rerun=true") == 1
    assert "boom leaves" in capsys.readouterr().out


def test_who_diverges_in_the_very_last_step_is_no_result(distil, lines, output, capsys):
    """Its loss was finite, what the step made of its weights is not."""
    short = ["train.epochs=1", "train.max_steps=1", "train.milestones=[]"]
    words = merge(lines, ["methods=[crd,{name: kd, label: boom, weights: {ce: 1e30}}]", *short])
    assert distil(*words) == 1
    assert "boom: the test loss is not finite after epoch 1" in capsys.readouterr().err
    assert files(run_folder(output, "boom")) == {".lock", "code.json", "failure.json"}
    assert result(output, "crd")["status"] == "complete"


def test_where_one_result_cannot_be_written_the_others_are(
    distil, lines, output, monkeypatch, uninterrupted, capsys
):
    finish = recorder.Recorder.finish

    def write(self, job, seat):
        if job.config.label == "crd":
            raise RunFailed("no space left")
        finish(self, job, seat)

    with monkeypatch.context() as patch:
        patch.setattr(recorder.Recorder, "finish", write)
        assert distil(*lines) == 1
    assert "no space left" in capsys.readouterr().err
    assert result(output, "aftkd")["status"] == "complete"
    assert distil(*lines) == 0
    check_equal(output, uninterrupted)


def test_an_interrupted_epoch_took_the_time_of_both_processes(distil, output):
    with at_step(2, lambda display: time.sleep(1)), interrupted_at(2):
        assert distil("method=none") == 143
    assert distil("method=none") == 0
    first, second = (row["time/epoch_s"] for row in result(output, "none")["history"])
    assert 1000 > first > 1 > second


def test_who_waited_for_anothers_pretraining_has_none_of_its_time(distil, output):
    with at_step(2, lambda display: time.sleep(1)), interrupted_at(2):
        assert distil("methods=[none,fsp]") == 143
    assert distil("method=none") == 0
    first, second = (row["time/epoch_s"] for row in result(output, "none")["history"])
    assert first < 1
    assert second < 1


def test_continued_run_does_not_repeat_steps(distil, lines, output, monkeypatch):
    with interrupted_at(6):
        assert distil(*lines) == 143
    starts = []
    original = TrainBatches.epoch

    def epoch(self, number, start=0, views=(UPRIGHT,)):
        starts.append((number, start))
        return original(self, number, start, views)

    monkeypatch.setattr(TrainBatches, "epoch", epoch)
    assert distil(*lines) == 0
    assert starts == [(1, 2), (2, 0)]


class Killed(BaseException):
    """The process is gone."""


def test_killed_between_two_members_checkpoints(distil, lines, output, monkeypatch, uninterrupted, capsys):
    """The first member has a checkpoint of a later step than the second: both go back to the shared one."""
    monkeypatch.setattr(cohort, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    original, saved = Checkpoints.save, []

    def save(self, step, state):
        if len(saved) == 3:
            raise Killed
        saved.append(step)
        original(self, step, state)

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(Killed):
        distil(*lines)
    assert saved == [4, 4, 8]
    assert [len(checkpoints(output, label)) for label in LABELS] == [2, 1]
    monkeypatch.setattr(Checkpoints, "save", original)
    capsys.readouterr()
    assert distil(*lines) == 0
    assert f"continued at step 4 of {NUM_STEPS}" in capsys.readouterr().out
    check_equal(output, uninterrupted)


def test_killed_while_a_checkpoint_is_written(distil, lines, output, monkeypatch, uninterrupted, capsys):
    monkeypatch.setattr(cohort, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    original, writes = Path.replace, []

    def replace(self, target):
        if ".pt" in target.name:
            writes.append(target)
        if len(writes) == 3:
            with open(self, "r+b") as file:
                file.truncate(1000)
            raise Killed
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(Killed):
        distil(*lines)
    monkeypatch.setattr(Path, "replace", original)
    assert distil(*lines) == 0
    assert f"continued at step 4 of {NUM_STEPS}" in capsys.readouterr().out
    check_equal(output, uninterrupted)


def test_killed_before_the_result_was_written(distil, lines, output, monkeypatch, uninterrupted):

    def killed(path, content):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "write_record", killed)
        with pytest.raises(Killed):
            distil(*lines)
    assert distil(*lines) == 0
    check_equal(output, uninterrupted)


@pytest.mark.parametrize("then", ["method=kd", "methods=[kd,none]"], ids=["nothing", "something"])
def test_killed_between_the_result_and_the_clearing_away(then, distil, output):
    """Whether there is something left to train or not."""
    assert distil("method=kd") == 0
    left = run_folder(output, "kd") / "checkpoint-00000006.pt"
    left.write_bytes(b"left")
    assert distil(then) == 0
    assert not left.exists()


def test_what_another_process_writes_is_not_cleared_away(distil, teacher_root, tmp_path):
    """As where it has begun to replace the teacher that was found."""
    store = shutil.copytree(teacher_root, tmp_path / "store")
    (card,) = store.rglob("card.json")
    halves = (".checkpoint-00000006.pt.half", ".tmpM9jgVY")  # of ours, and of safetensors'
    theirs = [card.with_name(name) for name in ("checkpoint-00000004.pt", *halves)]
    for path in theirs:
        path.write_bytes(b"theirs")
    with locked(card.parent):
        assert distil("method=kd", f"teacher.root={store}") == 0
    assert all(path.exists() for path in theirs)
    assert distil("method=kd", f"teacher.root={store}", "seed=1") == 0
    assert not any(path.exists() for path in theirs)


def test_a_member_that_joins_later_changes_nothing(distil, lines, output, uninterrupted):
    with interrupted_at(6):
        assert distil("methods=[crd]", *lines[1:]) == 143
    assert distil(*lines) == 0
    check_equal(output, uninterrupted)


def test_interrupted_teacher_is_continued(distil, tmp_path, output, capsys):
    words = ["method=kd", "train.max_steps=4"]
    assert distil(*words, f"output={tmp_path}/whole", f"teacher.root={tmp_path}/whole/store") == 0
    with interrupted_at(6):
        assert distil(*words, f"teacher.root={tmp_path}/store") == 143
    assert not list((tmp_path / "store").rglob("card.json"))
    assert len(list((tmp_path / "store").rglob("*.pt"))) == 1
    capsys.readouterr()
    assert distil(*words, f"teacher.root={tmp_path}/store") == 0
    assert "continued at step 6 of 8" in capsys.readouterr().out
    assert not list((tmp_path / "store").rglob("*.pt"))
    assert same(weights(output, "kd"), weights(tmp_path / "whole", "kd"))


DAMAGE = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "half": lambda content: content[: len(content) // 2],
    "all but a byte": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "flipped": lambda content: flipped(content, len(content) // 3),
    "flipped at the end": lambda content: flipped(content, len(content) - 1),
    "garbage": lambda content: b"no",
}


def flipped(content, position):
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.fixture(scope="module")
def stopped(teacher_root, tmp_path_factory):
    """The cohort's output where it was interrupted at step 10, the last of its checkpoints but one at step 8."""
    output = tmp_path_factory.mktemp("stopped")
    (path,) = teacher_root.rglob("teacher.safetensors")
    words = merge(TINY, [*COHORT, f"teacher.checkpoint={path}", f"output={output}"])
    with few_digits(), pytest.MonkeyPatch.context() as patch, interrupted_at(10):
        patch.setattr(cohort, "SECONDS_BETWEEN_CHECKPOINTS", -1)
        assert run(*words) == 143
    return output


@pytest.mark.parametrize("damage", DAMAGE)
def test_where_a_checkpoint_is_damaged_the_one_before_it_is_used(
    damage, distil, lines, output, stopped, uninterrupted, capsys
):
    """Of one member of a cohort: the other one goes back with it."""
    shutil.copytree(stopped, output)
    for label in LABELS:
        assert [path.name for path in checkpoints(output, label)] == [
            "checkpoint-00000008.pt",
            "checkpoint-00000010.pt",
        ]
    path = checkpoints(output, "crd")[-1]
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    capsys.readouterr()
    assert distil(*lines) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{path} was damaged" in shown
    assert "checkpoint-00000008.pt is used" in shown
    assert f"continued at step 8 of {NUM_STEPS}" in shown
    check_equal(output, uninterrupted)


def test_where_every_checkpoint_is_damaged_the_training_begins_anew(distil, lines, output, uninterrupted, capsys):
    with interrupted_at(6):
        assert distil(*lines) == 143
    for label in LABELS:
        for path in checkpoints(output, label):
            path.write_bytes(path.read_bytes()[:-100])
    capsys.readouterr()
    assert distil(*lines) == 0
    shown = capsys.readouterr().out
    assert shown.count("begins anew") == len(LABELS)
    assert "continued at" not in shown
    check_equal(output, uninterrupted)


def test_a_foreign_checkpoint_is_named(distil, output, capsys):
    """As another version of the code may leave: whole, but with another state."""
    with interrupted_at(2):
        assert distil("method=none") == 143
    (path,) = checkpoints(output, "none")
    Checkpoints(path.parent).save(2, {"hello": torch.zeros(1)})
    capsys.readouterr()
    assert distil("method=none") == 2
    shown = capsys.readouterr().err
    assert str(path) in shown
    assert len(shown.splitlines()) <= 8
    path.unlink()
    assert distil("method=none") == 0


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_a_checkpoint_is_not_blamed_for_too_little_memory(error, tmp_path):
    def load(state):
        raise error

    kept = Checkpoints(tmp_path)
    kept.save(1, {"value": 1})
    with pytest.raises(error):
        kept.restore(1, torch.device("cpu"), load)


def test_a_checkpoint_that_does_not_read_back_is_not_relied_upon(tmp_path, monkeypatch):
    """The one before it stays."""
    kept = Checkpoints(tmp_path)
    kept.save(1, {"value": 1})
    original = Path.replace

    def replace(self, target):
        self.write_bytes(flipped(self.read_bytes(), 50))
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(RunFailed, match="read back"):
        kept.save(2, {"value": 2})
    assert [path.name for path in kept.discard_damaged()] == ["checkpoint-00000002.pt"]
    assert kept.steps() == {1}


def test_no_bit_of_a_checkpoint_may_change(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save(3, {"value": torch.arange(4)})
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        path.write_bytes(flipped(content, position))
        assert kept.discard_damaged() == [path]
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert kept.discard_damaged() == [path]
    path.write_bytes(content)
    assert kept.discard_damaged() == []


def test_the_last_two_checkpoints_are_kept(tmp_path):
    kept = Checkpoints(tmp_path)
    for step in (2, 4, 9, 6):  # 9 is left of a training that went back to 4
        kept.save(step, {})
    kept.delete_older(6)
    assert kept.steps() == {4, 6}
    kept.delete()
    assert kept.steps() == set()


def test_a_run_goes_on_from_a_checkpoint_within_an_epoch(distil, lines, output, monkeypatch, uninterrupted, capsys):
    """Killed at step 7 of epochs of 4 steps, it goes on at step 6."""
    original = Launcher.__call__

    def launch(self, members, draws, step):
        if step == 7:
            raise Killed
        original(self, members, draws, step)

    with monkeypatch.context() as patch:
        patch.setattr(Launcher, "__call__", launch)
        with pytest.raises(Killed):
            distil(*lines, "checkpoint.every_steps=3")
    capsys.readouterr()
    assert distil(*lines, "checkpoint.every_steps=5") == 0
    assert f"continued at step 6 of {NUM_STEPS}" in capsys.readouterr().out
    check_equal(output, uninterrupted)


def test_a_second_process_on_the_same_run_is_refused(distil, output, capsys):
    with interrupted_at(2):
        assert distil("method=none") == 143
    capsys.readouterr()
    folder = run_folder(output, "none")
    before = files(folder)
    with FileLock(folder / ".lock"):
        assert distil("methods=[none]") == 2
    shown = capsys.readouterr().err
    assert "another process" in shown
    assert str(folder) in shown
    assert files(folder) == before
    assert distil("method=none") == 0


def test_what_another_process_completed_meanwhile_is_not_trained_again(distil, output, tmp_path, monkeypatch):
    """Between the look for a result and the lock another process may finish the run."""
    assert distil("method=none", f"output={tmp_path}/other") == 0

    def finished(folder):
        if not (folder / "result.json").exists():
            shutil.copytree(run_folder(tmp_path / "other", "none"), folder, dirs_exist_ok=True)
        return locked(folder)

    monkeypatch.setattr(distillation, "locked", finished)
    monkeypatch.setattr(cohort.Cohort, "_train_epoch", lambda *_: pytest.fail("it trains again"))
    assert distil("method=none") == 0


@pytest.fixture
def signalled(teacher_root, output):
    """Runs kd in a process that gets a signal while it is held at step 4 of 6; its status and what it said."""
    words = [*TINY, "method=kd", f"output={output}", f"teacher.root={teacher_root}"]

    def run_and_signal(signum, *more):
        process = start("tests.held", ["4", *merge(words, more)])
        os.waitpid(process.pid, os.WUNTRACED)
        process.send_signal(signum)
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=60)
        return process.returncode, out

    return run_and_signal


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_ends_a_process_with_a_checkpoint(signum, status, signalled, distil, output, capsys):
    returned, said = signalled(signum)
    assert returned == status, said
    assert "Traceback" not in said
    assert "interrupted at step 4" in said
    assert [path.name for path in checkpoints(output, "kd")] == ["checkpoint-00000004.pt"]
    assert distil("method=kd") == 0
    assert "continued at step 4 of 6" in capsys.readouterr().out
    assert len(result(output, "kd")["history"]) == 2


@pytest.mark.slow
def test_sigkill_leaves_nothing_that_breaks_the_next_start(signalled, distil, output):
    returned, said = signalled(signal.SIGKILL, "tracking.mode=offline")
    assert returned == -signal.SIGKILL, said
    assert distil("method=kd", "tracking.mode=offline") == 0
    assert len(result(output, "kd")["history"]) == 2
    assert not [name for name in files(run_folder(output, "kd")) if "checkpoint" in name]
