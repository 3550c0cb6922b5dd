"""What W&B is told: a real offline run's file read back."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import wandb
from commands import PAIR, TINY, bare_teacher, few_digits, files, interrupted_at, merge, result, run, run_folder
from wandb_logs import tracked

from benchmarks.config import Mode, TrackingConfig
from benchmarks.results import STOPPED
from benchmarks.tracking import Tracker

ROOT = Path(__file__).parent.parent
SENTINEL = "c0ffee" + "5e4717e1" * 4 + "42"  # 40 characters, as a key has


@pytest.fixture(scope="module")
def cohort_output(teacher_root, tmp_path_factory):
    """Students of one cohort, tracked offline, with a key in the environment."""
    output = tmp_path_factory.mktemp("tracked")
    words = ["methods=[none,aftkd,{name: kd, label: soft, temperature: 8},ab]", "tracking.mode=offline"]
    with pytest.MonkeyPatch.context() as patch, few_digits():
        patch.setenv("WANDB_API_KEY", SENTINEL)
        patch.delenv("WANDB_MODE", raising=False)
        assert run(*merge(TINY, [*words, f"output={output}", f"teacher.root={teacher_root}"])) == 0
    return output


LABELS = {"none": ("ce",), "aftkd": ("ce", "kd", "afb"), "soft": ("ce", "kd"), "ab": ("ce",)}
COMMON = {
    *("epoch", "lr", "train/loss", "train/top1", "test/loss", "test/top1", "test/top5", "test/ece"),
    *("time/epoch_s", "throughput/images_per_s", "memory/peak_gib"),
}
FIDELITY = {"test/agreement", "test/teacher_kl"}
DIAGNOSTICS = {"aftkd": {"train/diagnostic/afb_floor", "train/diagnostic/afb_relative"}}


@pytest.mark.parametrize("label", LABELS)
def test_each_run_of_a_cohort_is_separate_and_whole(label, cohort_output):
    (run,) = tracked(cohort_output, label)
    folder = run_folder(cohort_output, label)
    assert run.id == folder.name
    assert run.path.is_relative_to(folder / "wandb")
    assert label in run.name
    assert run.group == PAIR
    assert run.project == "kd-benchmarks"
    assert run.exit_code == 0
    content = result(cohort_output, label)
    assert content["wandb"] == str(run.path.parent)

    terms = {f"train/{kind}/{term}" for kind in ("loss", "weight") for term in LABELS[label]}
    own = DIAGNOSTICS.get(label, set()) | (set() if label == "none" else FIDELITY)  # that of a teacher
    assert [set(row) for row in run.rows] == [COMMON | terms | own] * 2
    assert run.rows == content["history"]
    assert [row["epoch"] for row in run.rows] == [1, 2]

    top1 = [row["test/top1"] for row in content["history"]]
    assert run.summary["test/top1_last"] == top1[-1]
    assert run.summary["test/top1_best"] == max(top1)
    assert run.summary["status"] == "complete"
    assert ("teacher/top1" in run.summary) == (label != "none")


@pytest.mark.parametrize("label", LABELS)
def test_config_is_all_that_determines_the_run(label, cohort_output):
    (run,) = tracked(cohort_output, label)
    config = run.config
    assert config["id"] == run.id
    assert config["label"] == label
    assert config["method"]["name"] == {"soft": "kd"}.get(label, label)
    assert config["pair"] == {"name": PAIR, "teacher": "resnet8", "student": "resnet8"}
    assert config["seed"] == 0
    assert config["data"]["name"] == "digits"
    train = config["train"]
    assert (train["epochs"], train["batch_size"], train["lr"], train["milestones"]) == (2, 8, 0.05, [1])
    assert (train["precision"], train["device"], train["threads"]) == ("fp32", "cpu", 1)
    assert "???" not in json.dumps(config)
    assert "auto" not in (train["precision"], train["device"])
    assert config["loss"]["schedule"] == ("adaptive" if label == "aftkd" else "fixed")
    assert config["code"]["sources"]
    assert config["environment"]["libraries"]["torch"] == torch.__version__
    assert config["unusual"] == (["method.temperature=8.0"] if label == "soft" else [])
    assert config["environment"]["cpu_capability"]
    if label == "none":
        assert config["teacher"] is None
    else:
        assert len(config["teacher"]["sha256"]) == 64
    if label == "soft":
        assert config["method"]["temperature"] == 8
    if label == "aftkd":
        assert config["method"]["block_size"] == [8, 4, 2]  # resolved
        assert config["method"]["stages"] == [[1, 1], [2, 2], [3, 3]]
    stated = result(cohort_output, label)["config"]
    assert {name: config[name] for name in stated} == stated


def test_no_key_is_written(cohort_output):
    assert any(name.endswith(".wandb") for name in files(cohort_output))
    for name in files(cohort_output):
        assert SENTINEL.encode() not in (cohort_output / name).read_bytes(), name


def test_environment_chooses_the_mode_and_the_setting_overrides_it(distil, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert distil("method=none", "tracking.mode=offline", f"output={tmp_path}/told") == 0
    assert len(tracked(tmp_path / "told", "none")) == 1
    words = [word for word in TINY if not word.startswith("tracking.mode")]
    assert run(*words, "method=none", f"output={tmp_path}/silent") == 0
    assert not list((tmp_path / "silent").rglob("*wandb*"))
    assert result(tmp_path / "silent", "none")["wandb"] is None


def test_a_variable_that_wandb_refuses_ends_before_anything_is_spent(distil, tmp_path, monkeypatch, capsys):
    """W&B refuses it at the first run of a process alone, so that some students would fail by it and others not."""
    monkeypatch.setenv("WANDB_SILENT", "perhaps")
    assert distil("method=none", "tracking.mode=offline") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "WANDB_SILENT=perhaps" in line
    assert "boolean" in line
    assert not files(tmp_path / "runs")
    assert distil("method=none", "tracking.mode=disabled") == 0


@pytest.mark.parametrize("teacher", [pytest.param("there", marks=pytest.mark.slow), "to be trained"])
def test_online_without_login_ends_before_anything_is_spent(teacher, teacher_root, tmp_path):
    """In a process of its own, since W&B remembers a key that it has seen."""
    words = ["method=kd", "tracking.mode=online", f"output={tmp_path / 'runs'}"]
    if teacher == "there":
        words.append(f"teacher.checkpoint={bare_teacher(teacher_root, tmp_path)}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path / "home"), "NETRC": str(tmp_path / "home" / "netrc")}
    environment |= {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}  # no network
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *merge(TINY, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "wandb login" in done.stderr
    assert "tracking.mode=offline" in done.stderr
    assert len(done.stderr.splitlines()) <= 6
    assert "epoch 1/" not in done.stdout
    assert not files(tmp_path / "runs")


def test_group_project_and_validation_metrics(distil, tmp_path):
    words = ["data.validation=0.2", "tracking.project=other", "tracking.group=mine", "tracking.mode=offline"]
    assert distil("method=none", *words) == 0
    (run,) = tracked(tmp_path / "runs", "none")
    assert (run.project, run.group) == ("other", "mine")
    assert {"val/loss", "val/top1", "val/top5"} <= set(run.rows[0])
    assert not [name for name in (*run.rows[0], *run.summary) if name.startswith("test/")]
    assert {"val/top1_last", "val/top1_best"} <= set(run.summary)


def test_a_failed_run_says_so(distil, tmp_path):
    assert distil("method=none", "train.lr=1e9", "train.milestones=[]", "tracking.mode=offline") == 1
    (run,) = tracked(tmp_path / "runs", "none")
    assert run.summary["status"] == "failed"
    assert "not finite" in run.summary["failure"]
    assert run.exit_code == 1


def test_a_stopped_run_is_no_crashed_one_to_wandb(tmp_path):
    """As a trial that a study pruned is."""
    folder = tmp_path / PAIR / "trial-1" / "abc"
    folder.mkdir(parents=True)
    tracker = Tracker(TrackingConfig(mode=Mode.offline), folder, "abc", name="a trial", group=PAIR, content={})
    tracker.log({"epoch": 1, "val/top1": 50.0})
    tracker.finish(STOPPED, {"val/top1_last": 50.0})
    (run,) = tracked(tmp_path, "trial-1")
    assert run.exit_code == 0
    assert run.run.state == "stopped"


def test_an_interrupted_run_says_so_and_the_next_segment_has_all_rows(distil, tmp_path):
    with interrupted_at(4):
        assert distil("method=none", "tracking.mode=offline") == 143
    (first,) = tracked(tmp_path / "runs", "none")
    assert first.summary["status"] == "interrupted"
    assert [row["epoch"] for row in first.rows] == [1]
    time.sleep(1)  # W&B names the folder by the second
    assert distil("method=none", "tracking.mode=offline") == 0
    _, second = tracked(tmp_path / "runs", "none")
    assert second.id == first.id
    assert second.rows == result(tmp_path / "runs", "none")["history"]
    assert second.rows[0] == first.rows[0]
    assert second.summary["status"] == "complete"


@pytest.fixture
def no_server(distil, monkeypatch):  # in this order: `distil` forgets logins
    """A login to a W&B server that is not there."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", SENTINEL)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    wandb.teardown()
    yield
    wandb.teardown()


def test_a_server_that_does_not_answer_costs_no_training(no_server, distil, tmp_path, capsys):
    """The runs are logged offline, with a word."""
    assert distil("methods=[none,kd]", "tracking.mode=online") == 0
    shown = capsys.readouterr().err
    assert shown.count("wandb sync") == 1
    assert "deadline exceeded" in shown
    for label in ("none", "kd"):
        (run,) = tracked(tmp_path / "runs", label)
        assert run.rows == result(tmp_path / "runs", label)["history"]
        assert result(tmp_path / "runs", label)["wandb"] == str(run.path.parent)


def test_a_helper_process_of_a_parent_is_not_taken_over(distil, tmp_path, monkeypatch):
    """It would hold runs of children that were killed; here there is none at its address."""
    monkeypatch.setenv("WANDB_SERVICE", "3-1-unix-/nowhere")
    wandb.teardown()
    assert distil("method=none", "tracking.mode=offline") == 0
    assert len(tracked(tmp_path / "runs", "none")) == 1
