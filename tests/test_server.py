"""Runs read from a W&B server: equal to what was logged, in pages, through failures, and from the cache."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wandb_logs import KEYS, ROWS, SCALARS, TREES, log, same_values
from wandb_server import Project, serving

from analysis import server
from analysis.logs import load
from benchmarks.errors import RunFailed, UserError

KEY = "local" + "0" * 40
ROW = {"epoch": 1, "test/top1": 70.5, "nan": float("nan"), "inf": float("-inf"), "text": "ü", "big": 2**60}


@contextlib.contextmanager
def connected(project, folder):
    """Within it the SDK talks to a server of the tests."""
    with serving(project) as address, pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "WANDB_CACHE_DIR", "WANDB_DIR"):
            patch.setenv(name, str(folder))
        patch.setenv("WANDB_BASE_URL", address)
        patch.setenv("WANDB_API_KEY", KEY)
        yield


def some_runs(number, rows=3):
    return {
        f"run{k}": {
            "config": {"seed": k, "pair": {"name": "a_b"}, "big": 2**60},
            "summary": {"test/top1_last": 70.0 + k, "status": "complete"},
            "rows": [ROW | {"epoch": epoch, "test/top1": k + epoch / 7} for epoch in range(1, rows + 1)],
        }
        for k in range(number)
    }


@settings(max_examples=5)
@given(
    config=st.dictionaries(KEYS, TREES, max_size=4), rows=ROWS, summary=st.dictionaries(KEYS, SCALARS, max_size=3)
)
def test_offline_and_server_give_the_same_tables(tmp_path_factory, config, rows, summary):
    """From the same logged data."""
    folder = tmp_path_factory.mktemp("both")
    rows = [{"epoch": epoch} | row for epoch, row in enumerate(rows, 1)]
    summary = {key: value for key, value in summary.items() if value == value}
    log(folder, rows, config=config, summary=summary)
    offline = load([str(folder)])
    ended = offline.runs.loc["run1", "summary"]
    with connected(Project({"run1": {"config": config, "summary": ended, "rows": rows}}), folder):
        online = load(["me/project"])
    for name in ("config", "summary"):
        assert same_values(online.runs.loc["run1", name], offline.runs.loc["run1", name])
    apart = ["source", "folder", "created", "config", "summary"]
    pd.testing.assert_frame_equal(online.runs.drop(columns=apart), offline.runs.drop(columns=apart))
    assert list(online.history) == list(offline.history)
    for name in offline.history:
        assert same_values(online.history[name].tolist(), offline.history[name].tolist()), name


def test_lists_and_histories_are_read_in_pages_and_through_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "RUNS_A_PAGE", 2)
    monkeypatch.setattr(server, "ROWS_A_PAGE", 3)
    project = Project(some_runs(5, rows=7))
    project.failures.update(Runs=1, Run=2, HistoryPage=3)  # the SDK waits two seconds before it tries again
    with connected(project, tmp_path):
        logs = load(["me/project"])
    assert logs.runs.index.tolist() == [f"run{k}" for k in range(5)]
    assert logs.history.groupby("run_id")["epoch"].apply(list).tolist() == [list(range(1, 8))] * 5
    assert logs.runs["top1_last"].isna().sum() == 0
    assert project.asked["Runs"] == 3 + 1
    assert len(project.pages) == 5 * 3
    assert not +project.failures


def test_a_run_keeps_its_name_time_and_address(tmp_path):
    with connected(Project(some_runs(1)), tmp_path):
        logs = load(["me/project"])
    run = logs.runs.loc["run0"]
    assert run["folder"].endswith("/me/project/runs/run0")
    assert (run["source"], run["name"], run["group"]) == ("me/project", "name of run0", "a group")
    assert run["created"] == pd.Timestamp("2026-01-02T03:04:05Z").timestamp()
    assert (run["seed"], run["pair"], run["state"], run["top1_last"]) == (0, "a_b", "complete", 70.0)
    assert run["config"] == {"seed": 0, "pair": {"name": "a_b"}, "big": 2**60}


def test_epochs_may_be_whole_floats(tmp_path):
    runs = some_runs(1)
    runs["run0"]["rows"] = [{"epoch": 1.0, "a": 1.0}, {"epoch": 2, "b": 1.0}, {"epoch": 2.5}, {"epoch": "x"}, {}]
    runs["run0"]["rows"].append({"epoch": 2.0, "a": 2.0})
    with connected(Project(runs), tmp_path):
        logs = load(["me/project"])
    assert logs.history[["epoch", "a"]].to_numpy().tolist() == [[1, 1], [2, 2]]
    assert any("rows without an epoch left out: 3" in note for note in logs.notes)


def test_what_has_not_changed_comes_from_the_cache(tmp_path):
    project = Project(some_runs(3))
    with connected(project, tmp_path):
        first = load(["me/project"])
        assert project.asked["Run"] == 3
        project.runs["run1"] |= {"heartbeatAt": "2026-01-02T05:00:00Z", "summary": {"status": "failed"}}
        second = load(["me/project"])
    assert project.asked["Run"] == project.asked["RunParquetHistory"] == 4
    assert project.asked["Runs"] == 2
    assert second.runs["state"].tolist() == ["complete", "failed", "complete"]
    pd.testing.assert_frame_equal(first.history, second.history)
    assert not list(tmp_path.rglob(".*.json*"))


def test_a_damaged_cache_is_read_again(tmp_path):
    project = Project(some_runs(1))
    with connected(project, tmp_path):
        first = load(["me/project"])
        (path,) = (tmp_path / "kd-benchmarks" / "wandb").glob("*.json")
        for damage in ("{", "[]", ""):
            path.write_text(damage)
            pd.testing.assert_frame_equal(load(["me/project"]).history, first.history)
    assert project.asked["Run"] == 4


def test_a_server_that_stays_away_ends_the_command_and_what_was_read_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "TIMEOUT", 1)
    monkeypatch.setattr(server, "THREADS", 1)
    project = Project(some_runs(3))
    original = project.answer

    def answer(operation, arguments):
        if arguments.get("name") == "run2":
            project.failures["Run"] = 10**6
        return original(operation, arguments)

    project.answer = answer
    with connected(project, tmp_path):
        project.failures["Runs"] = 10**6
        with pytest.raises(RunFailed, match="source=me/project"):
            load(["me/project"])
        project.failures["Runs"] = 0
        project.runs["run2"]["config"] = None  # an answer that makes no sense
        with pytest.raises(RunFailed, match=r"(?s)source=me/project.*goes on from here"):
            load(["me/project"])
        assert project.asked["Run"] >= 2
        project.answer, project.failures["Run"] = original, 0
        project.runs["run2"]["config"] = {}
        before = project.asked["HistoryPage"]
        assert len(load(["me/project"]).runs) == 3
    assert project.asked["HistoryPage"] <= before + 1


def test_a_project_that_is_not_there_is_named(tmp_path):
    with connected(Project({}), tmp_path), pytest.raises(UserError, match="source=me/other"):
        load(["me/other"])


@pytest.mark.slow
def test_without_login_the_command_says_how(tmp_path):
    code = "from analysis.table import COMMAND; from benchmarks.cli import main; raise SystemExit(main(COMMAND))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_DIR": str(tmp_path)}
    environment["WANDB_BASE_URL"] = "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "-c", code, "source=me/project"],
        env=environment,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "wandb login" in done.stderr
    assert "Traceback" not in done.stderr
