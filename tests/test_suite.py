"""Grids trained in this process on a configuration of seconds: planned, interrupted, failing, shared, extended."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import threading
import time

import pytest
import torch
from commands import (
    PAIR,
    TINY,
    InjectedConfig,
    bare_teacher,
    few_digits,
    injected,
    interrupted_at,
    merge,
    result,
    run_folder,
    same,
    weights,
    without_times,
)
from filelock import FileLock

from benchmarks import status, teachers
from benchmarks.cli import main
from benchmarks.config import RunConfig
from benchmarks.errors import RunFailed, UserError
from benchmarks.recorder import Recorder
from benchmarks.suite import tasks
from benchmarks.suite.command import COMMAND
from benchmarks.suite.config import OF_LAUNCH, SHARED, SuiteConfig
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.cohort import Cohort
from benchmarks.workbench import Workbench
from methods import Method

SMALL = "{teacher: resnet8, student: resnet8}"
BOOM = "{name: kd, label: boom, weights: {ce: 1e30}}"  # not finite from the second step on


@pytest.fixture
def suite(tmp_path, teacher_root, monkeypatch, output):
    """Runs `benchmarks.suite` in this process on a tiny grid of one pair."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "KD_DATA"):
        monkeypatch.delenv(name, raising=False)
    base = [word for word in TINY if not word.startswith("pair")]
    base += [f"pairs=[{SMALL}]", f"output={output}", f"teacher.root={teacher_root}"]
    with few_digits():
        yield lambda *words: main(COMMAND, merge(base, words))


@pytest.fixture
def trained(monkeypatch):
    """Labels of what is trained, one list for each cohort."""
    cohorts, original = [], Cohort.run

    def run(self):
        cohorts.append([seat.member.name for seat in self.seats])
        original(self)

    monkeypatch.setattr(Cohort, "run", run)
    return cohorts


def test_teachers_of_fewer_epochs_are_pointed_out_once(suite, capsys):
    words = ("seeds=[0,1]", "train.epochs=6", "dry_run=true")
    assert suite("methods=[none,kd,at]", *words) == 0
    assert capsys.readouterr().out.count("teacher.epochs=6 ") == 1
    assert suite("methods=[none]", *words) == 0
    assert "teacher.epochs" not in capsys.readouterr().out


def test_what_a_kill_left_of_a_complete_run_is_cleared_away(suite, output, no_training):
    assert suite("methods=[none]") == 0
    left = run_folder(output, "none") / "checkpoint-00000006.pt"
    left.write_bytes(b"left")
    no_training()
    assert suite("methods=[none]", "dry_run=true") == 0
    assert left.exists()
    assert suite("methods=[none]") == 0
    assert not left.exists()


def show(output, capsys):
    """What `benchmarks.status` prints."""
    capsys.readouterr()
    assert main(status.COMMAND, [f"output={output}"]) == 0
    return capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")


def test_a_grid_can_be_told_all_that_a_run_can():
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    assert fields - {"method", "methods", "pair", "seed"} == set(SHARED)
    assert set(SHARED) | set(OF_LAUNCH) | {"methods", "pairs", "seeds", "own_teachers"} == {
        field.name for field in dataclasses.fields(SuiteConfig)
    }


def test_a_grid_is_trained_once_extended_alone_and_shown(suite, output, distil, trained, no_training, capsys):
    assert suite("methods=[none,kd]", "seeds=[0,1]") == 0
    assert trained == [["none", "kd"]] * 2
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    folders = sorted(output.glob(f"{PAIR}/*/*/result.json"))
    assert len(folders) == 4
    for path in folders:
        content = json.loads(path.read_text())
        assert f"{content['summary']['test/top1_last']:.2f}" in show(output, capsys)

    before = {path: path.stat().st_mtime_ns for path in folders}
    assert suite("methods=[none,kd,at]", "seeds=[0,1]") == 0
    assert trained[2:] == [["at"]] * 2
    assert {path: path.stat().st_mtime_ns for path in folders} == before
    assert show(output, capsys).count(f"{PAIR} seed 0") == 1  # the larger grid stands for the smaller

    no_training()
    assert suite("methods=[none,kd,at]", "seeds=[0,1]") == 0
    assert "6 runs, 6 complete" in capsys.readouterr().out
    assert distil("methods=[none,kd,at]", "seed=1") == 0  # they are the runs that the other command knows
    assert "complete already" in capsys.readouterr().out


def test_the_teacher_is_trained_first_and_once(suite, output, trained, tmp_path, capsys):
    words = ("methods=[none,kd]", "seeds=[0,1]", f"teacher.root={tmp_path}/store")
    assert suite(*words) == 0
    assert trained == [["teacher"], ["none", "kd"], ["none", "kd"]]
    (card,) = (tmp_path / "store").rglob("card.json")
    assert f"teacher {json.loads(card.read_text())['top1']:.2f}" in show(output, capsys)


def test_a_dry_run_says_once_why_a_method_cannot_serve_a_pair(suite, capsys):
    pairs = f"pairs=[{SMALL},{{teacher: vgg13, student: vgg8}}]"
    narrow = "{name: aftkd, label: narrow, block_size: [32,16,8]}"  # of resnet8's maps, and vgg8 has one more
    assert suite(f"methods=[kd,{narrow}]", pairs, "seeds=[0,1,2]", "dry_run=true") == 0
    shown = capsys.readouterr().out
    assert ", 3 impossible" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("impossible"))
    assert line.startswith("impossible (3 runs): ")
    assert "vgg13_vgg8" in line


def test_a_dry_run_only_says_what_would_be_done_and_how_long_it_takes(suite, output, no_training, capsys):
    assert suite("methods=[none]") == 0
    before = sorted(output.rglob("*"))
    no_training()
    assert suite("methods=[none,kd,at]", "seeds=[0,1]", "dry_run=true") == 0
    shown = capsys.readouterr().out
    assert "6 runs, 1 complete, 5 to train" in shown
    assert "kd, at" in shown
    assert re.search(r"^about \d+ s of training and evaluation in all, .* extra$", shown, flags=re.M)
    unknown = "{teacher: resnet14, student: resnet8}"
    assert suite("methods=[kd]", f"pairs=[{unknown}]", "dry_run=true") == 0
    shown = capsys.readouterr().out
    assert "unknown" in shown
    assert "nothing similar to these tasks has been trained" in shown
    assert suite("methods=[kd]", f"pairs=[{SMALL},{unknown}]", "dry_run=true") == 0
    shown = capsys.readouterr().out
    assert "nothing similar to 2 of the 3 tasks has been trained" in shown
    assert not re.search(r"\d s .*in all", shown)
    assert sorted(output.rglob("*")) == before


@pytest.fixture(scope="module")
def quiet(teacher_root, tmp_path_factory):
    """Weights and histories of runs of a grid in which nothing happens."""
    output, labels = tmp_path_factory.mktemp("quiet"), ("kd", "none", "crd")
    words = [word for word in TINY if not word.startswith("pair")]
    words += [
        f"methods=[{','.join(labels)}]",
        f"pairs=[{SMALL}]",
        f"output={output}",
        f"teacher.root={teacher_root}",
    ]
    with few_digits():
        assert main(COMMAND, words) == 0
    return {label: (weights(output, label), without_times(result(output, label)["history"])) for label in labels}


def check_unharmed(output, quiet, *labels):
    for label in labels:
        state, history = quiet[label]
        assert same(weights(output, label), state)
        assert without_times(result(output, label)["history"]) == history


def test_a_method_that_diverges_harms_no_other_and_is_not_tried_again(suite, output, quiet, trained, capsys):
    assert suite(f"methods=[kd,{BOOM},none]") == 1
    shown = capsys.readouterr()
    assert "boom" in shown.err
    assert "not finite" in shown.err
    assert "Traceback" not in shown.err
    assert "boom ✗" in show(output, capsys)
    assert trained == [["kd", "boom", "none"]]
    assert suite(f"methods=[kd,{BOOM},none]") == 1
    assert "1 failed before" in capsys.readouterr().out
    assert len(trained) == 1
    check_unharmed(output, quiet, "kd", "none")
    (run_folder(output, "boom") / "failure.json").unlink()
    assert suite(f"methods=[kd,{BOOM},none]") == 1
    assert trained[-1] == ["boom"]


@pytest.mark.parametrize("rerun", ["false", "true"])
def test_whose_result_cannot_be_written_is_the_only_one_that_failed(
    rerun, suite, output, trained, monkeypatch, capsys
):
    finish = Recorder.finish

    def write(self, job, seat):
        if job.config.label == "none":
            raise RunFailed("no space left")
        finish(self, job, seat)

    monkeypatch.setattr(Recorder, "finish", write)
    assert suite("methods=[none,kd]", f"rerun={rerun}") == 1
    assert trained == [["none", "kd"]]
    shown = capsys.readouterr()
    assert "none: no space left" in " ".join(shown.err.split())
    assert "1 complete, 1 failed" in show(output, capsys) + shown.out
    assert result(output, "kd")["status"] == "complete"


class Buggy(Method[InjectedConfig]):
    """Fails in a way that nobody foresaw, from a call on."""

    needs = frozenset({"logits"})
    good_calls = 0

    def forward(self, student, teacher, target, index):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > self.good_calls:
            raise ZeroDivisionError("of all things")
        return {"injected": student.logits.square().mean()}


@pytest.mark.parametrize("good_calls", [0, 4], ids=["in the rehearsal", "in training"])
def test_a_method_with_a_bug_harms_no_other(good_calls, suite, output, quiet, capsys):
    with injected(type("Buggy", (Buggy,), {"good_calls": good_calls})):
        assert suite("methods=[kd,injected,none]") == 1
    shown = capsys.readouterr()
    assert "injected: ZeroDivisionError: of all things" in shown.err
    assert "ZeroDivisionError: of all things; kd, injected, none go on in two halves" in " ".join(shown.out.split())
    assert "Traceback" not in shown.err
    (log,) = output.rglob("suites/*/*.log")
    assert "Traceback" in log.read_text()
    check_unharmed(output, quiet, "kd", "none")


class Unfit(Method[InjectedConfig]):
    """Wants maps of other sides than there are."""

    needs = frozenset({"stages"})

    def forward(self, student, teacher, target, index):
        return {"injected": (student.stages[1] - teacher.stages[-1]).square().mean()}


def test_a_method_that_the_rehearsal_refuses_leaves_and_the_others_are_trained(suite, output, trained, capsys):
    with injected(Unfit):
        assert suite("methods=[injected,none,kd]") == 1
    assert "injected cannot serve the pair" in capsys.readouterr().err
    assert trained == [["none", "kd"]]


class Particular(Method[InjectedConfig]):
    """Wants a second sample in a batch."""

    needs = frozenset({"logits"})

    def forward(self, student, teacher, target, index):
        if len(target) < 2:
            raise ValueError("a sample has no neighbour")
        return {"injected": (student.logits - teacher.logits).square().mean()}


def test_the_rehearsal_tries_the_short_last_batch_of_an_epoch(suite, tmp_path, trained, capsys):
    words = ("train.batch_size=22", f"teacher.root={tmp_path / 'teachers'}")
    with injected(Particular), few_digits(train=67):
        assert suite("methods=[injected,kd]", *words, "train.max_steps=4") == 1
    reason = "injected cannot serve the pair resnet8_resnet8 in batches of 1: a sample has no neighbour"
    assert reason in capsys.readouterr().err
    assert trained[-1] == ["kd"]
    with injected(Particular), few_digits(train=67):
        assert suite("methods=[injected]", *words, "train.max_steps=3") == 0


def test_a_teacher_found_damaged_fails_those_that_need_it_alone(suite, teacher_root, output, tmp_path, capsys):
    store = shutil.copytree(teacher_root, tmp_path / "store")
    (path,) = store.rglob("teacher.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    pairs = f"pairs=[{SMALL},{{teacher: resnet14, student: resnet8}}]"
    assert suite("methods=[none,kd]", pairs, f"teacher.root={store}") == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count(f"delete {path.parent} to train it again") == 1
    assert f"{PAIR} seed 0, kd: " in shown
    assert result(output, "none")["status"] == "complete"
    assert len(list((output / "resnet14_resnet8").rglob("result.json"))) == 2


def test_a_teacher_that_is_not_what_is_claimed_fails_those_that_need_it_alone(suite, output, monkeypatch, capsys):
    def check_accuracy(teacher, top1, split):
        raise UserError("the teacher is far from what is claimed for it")

    monkeypatch.setattr(teachers, "check_accuracy", check_accuracy)
    assert suite("methods=[none,kd,at]") == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count("far from what is claimed") == 2
    assert "seed 0, none" not in shown
    assert result(output, "none")["status"] == "complete"


def test_an_error_about_nobody_fails_all_where_none_has_a_teacher(suite, monkeypatch, capsys):
    tried = []

    def rehearse(self, what, students, specs):
        assert not tried
        tried.append(students)
        raise RunFailed("no room")

    monkeypatch.setattr(Workbench, "rehearse", rehearse)
    assert suite("methods=[none]") == 1
    assert "none: no room" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RunFailed("teacher resnet8: the loss term ce is not finite"),
            "teacher resnet8: the loss term ce is not finite",
        ),
        (MemoryError(), "MemoryError"),  # which says nothing
    ],
)
def test_a_failed_teacher_fails_those_that_need_it(error, reason, suite, output, tmp_path, monkeypatch, capsys):
    def train_teacher(self, plan, observers):
        raise error

    monkeypatch.setattr(Workbench, "train_teacher", train_teacher)
    pairs = f"pairs=[{SMALL},{{teacher: resnet8, student: resnet14, seeds: [1]}}]"
    assert suite("methods=[kd,none]", pairs, f"teacher.root={tmp_path}/store") == 1
    assert capsys.readouterr().err.count(f"its teacher resnet8: {reason}") == 2
    shown = show(output, capsys)
    assert "teacher ✗" in shown
    assert shown.count("kd ✗") == 2
    assert "2 complete, 2 failed" in shown  # the students alone
    assert result(output, "none")["config"]["teacher"] is None


def test_grids_under_two_teachers_are_two(suite, output, teacher_root, tmp_path, capsys):
    given = bare_teacher(teacher_root, tmp_path)
    store = f"teacher.root={shutil.copytree(teacher_root, tmp_path / 'store')}"
    teachers_of = [(store,), (store, "teacher.seed=1"), (f"teacher.checkpoint={given}",)]
    for words in teachers_of:
        assert suite("methods=[kd,none]", *words) == 0
    assert len(list(output.glob("suites/*/plan.json"))) == len(teachers_of)
    assert show(output, capsys).count("2 complete") == len(teachers_of)
    assert suite("methods=[kd,none]", f"teacher.root={tmp_path / 'store'}/") == 0  # the first again
    assert len(list(output.glob("suites/*/plan.json"))) == len(teachers_of)


@pytest.mark.parametrize(("signum", "exit_status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_interrupted_and_continued_it_ends_the_same(signum, exit_status, suite, output, quiet, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "SECONDS_BETWEEN_LOOKS", 0)  # the pace of so few steps is noted, too
    with interrupted_at(4, signum):
        assert suite("methods=[kd,crd]") == exit_status
    assert "the same command continues" in capsys.readouterr().out
    assert "kd ‖" in show(output, capsys)
    assert suite("methods=[kd,crd]", "dry_run=true") == 0
    assert re.search(r"^about \d+ s of training", capsys.readouterr().out, flags=re.M)
    assert suite("methods=[kd,crd]") == 0
    (log,) = output.rglob("suites/*/*.log")
    assert "continued at step 4" in log.read_text()
    check_unharmed(output, quiet, "kd", "crd")


def test_whose_checkpoint_is_foreign_fails_alone(suite, output, quiet, capsys):
    """As another version of a method may leave it."""
    with interrupted_at(4):
        assert suite("methods=[kd,crd]") == 143
    Checkpoints(run_folder(output, "kd")).save(4, {"hello": torch.zeros(1)})
    capsys.readouterr()
    assert suite("methods=[kd,crd]") == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert "1 run" in shown
    assert "cannot be continued from" in shown
    check_unharmed(output, quiet, "crd")


def test_an_interrupted_rerun_says_what_the_same_command_does(suite, output, trained, capsys):
    pairs = f"pairs=[{SMALL},{{teacher: resnet8, student: resnet14, train: {{epochs: 3}}}}]"
    with interrupted_at(8):  # the first pair's is over by then
        assert suite("methods=[none]", pairs, "rerun=true") == 143
    said = " ".join(capsys.readouterr().out.split())
    assert "the same command continues, and trains again what is complete" in said
    assert suite("methods=[none]", pairs, "rerun=true") == 0
    assert len(trained) == 4
    assert len(list((output / PAIR).glob("none/*/result.json"))) == 2


class Elsewhere:
    """Another process that holds a run's lock."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.lock, self.held, self.release = FileLock(folder / ".lock"), threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._hold)
        self.thread.start()
        self.held.wait()

    def _hold(self):
        with self.lock:
            self.held.set()
            self.release.wait()


def test_what_another_process_trains_is_left_to_it_and_taken_over_when_it_leaves_it(
    suite, output, trained, capsys, monkeypatch
):
    assert suite("methods=[kd]", "output=" + str(output.parent / "other")) == 0
    folder = output / run_folder(output.parent / "other", "kd").relative_to(output.parent / "other")
    other = Elsewhere(folder)
    assert suite("methods=[none,kd]", "dry_run=true") == 0
    assert "kd ▸" not in show(output, capsys)  # no grid yet
    original = Cohort.run

    def run(self):
        original(self)
        assert "kd ▸" in show(output, capsys)
        threading.Timer(1.0, other.release.set).start()

    monkeypatch.setattr(Cohort, "run", run)
    assert suite("methods=[none,kd]") == 0
    other.thread.join()
    assert trained == [["kd"], ["none"], ["kd"]]
    assert json.loads((folder / "result.json").read_text())["status"] == "complete"


def test_what_another_process_finishes_is_not_trained_again(suite, output, trained, tmp_path):
    assert suite("methods=[kd]", f"output={tmp_path}/other") == 0
    source = run_folder(tmp_path / "other", "kd")
    folder = output / source.relative_to(tmp_path / "other")
    other = Elsewhere(folder)

    def finish():
        time.sleep(1.0)
        shutil.copytree(source, folder, dirs_exist_ok=True)
        other.release.set()

    threading.Thread(target=finish).start()
    assert suite("methods=[kd]") == 0
    other.thread.join()
    assert trained == [["kd"]]


def test_runs_that_differ_in_their_threads_alone_are_pointed_out(suite, capsys, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert suite("methods=[none]") == 0
    capsys.readouterr()
    assert suite("methods=[none]", "train.threads=3", "dry_run=true") == 0
    assert "complete with train.threads=1" in capsys.readouterr().out


def test_workers_share_the_threads(suite, capsys, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    seen = []
    monkeypatch.setattr("benchmarks.suite.command.announce", lambda plan, console: seen.append(plan.cohorts[0].run))
    words = [word for word in TINY if not word.startswith(("pair", "train.threads"))]
    for workers in (1, 3):
        assert (
            main(COMMAND, [*words, "methods=[kd]", f"pairs=[{SMALL}]", f"workers={workers}", "dry_run=true"]) == 0
        )
    assert [run.train.threads for run in seen] == [8, 2]
