"""Runs and histories in one Parquet file, and back."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logged import grid, logged, logs_of

from analysis import parquet
from analysis.export import COMMAND
from analysis.logs import Logs, assemble, load, merge
from analysis.places import without_places
from analysis.runs import LoggedRun, column
from benchmarks.cli import main
from benchmarks.errors import UserError

VGG, WRN = "vgg13_vgg8", "wrn40_2_wrn16_2"
VALUES = st.one_of(
    st.floats(), st.integers(), st.text(), st.booleans(), st.none(), st.lists(st.floats(), max_size=2)
)
METRICS = st.dictionaries(
    st.text(min_size=1).map("m/{}".format), st.lists(VALUES, min_size=3, max_size=3), max_size=4
)


def histories(metrics):
    return {"epoch": np.arange(1.0, 4)} | {name: column(values) for name, values in metrics.items()}


@given(
    st.lists(METRICS, max_size=3), st.dictionaries(st.text(), VALUES, max_size=3), st.lists(st.text(), max_size=2)
)
def test_a_file_holds_both_tables(tmp_path_factory, metrics, config, notes):
    path = tmp_path_factory.mktemp("parquet") / "logs.parquet"
    runs = [LoggedRun(f"r{k}", history=histories(each), config=config) for k, each in enumerate(metrics)]
    runs += [logged(seed=5), LoggedRun("without history", created=1.5)]
    logs = assemble(runs, notes)
    parquet.save(logs, path)
    back = load([str(path)])
    pd.testing.assert_frame_equal(back.runs.drop(columns="config"), logs.runs.drop(columns="config"))
    assert list(map(repr, back.runs["config"])) == list(map(repr, logs.runs["config"]))
    assert list(back.history) == list(logs.history)
    for name in logs.history:
        assert back.history[name].dtype == logs.history[name].dtype
        assert list(map(repr, back.history[name])) == list(map(repr, logs.history[name])), name
    assert back.notes == logs.notes


def test_large_seeds_keep_their_digits_beside_a_run_without_one(tmp_path):
    """Two that became one number would pass for one seed that was run twice."""
    seeds = [2**60 + 1, 2**60 + 2]
    parquet.save(logs_of([LoggedRun("foreign"), *(logged(seed=seed) for seed in seeds)]), tmp_path / "logs.parquet")
    assert sorted(load(str(tmp_path / "logs.parquet")).runs["seed"].dropna()) == seeds


def test_the_file_is_a_tidy_table_for_everybody(tmp_path):
    parquet.save(logs_of([*grid({("kd", VGG): [70.0, 71.0]}), LoggedRun("empty")]), tmp_path / "logs.parquet")
    table = pd.read_parquet(tmp_path / "logs.parquet")
    assert len(table) == 2 * 2 + 1
    last = table[table["epoch"] == 2]
    assert last.groupby(["pair", "label"], observed=True)["test/top1"].mean().to_dict() == {(VGG, "kd"): 70.5}
    assert table.loc[table["run_id"] == "empty", "epoch"].isna().all()


def test_runs_of_one_protocol_are_so_whatever_the_version_that_exported_them_called_it(tmp_path):
    logs = logs_of([logged()])
    old = Logs(logs.runs.assign(protocol="as it was called"), logs.history)
    parquet.save(old, tmp_path / "logs.parquet")
    assert merge([load(str(tmp_path / "logs.parquet")), logs_of([logged(seed=1)])]).runs["protocol"].nunique() == 1


def test_a_run_of_several_sources_counts_once(tmp_path):
    complete = logged(top1=70, created=1.0)
    cut, later = logged(status=None, created=2.0), logged(top1=71, created=3.0)
    assert merge([logs_of([complete]), logs_of([cut])]).runs["top1_last"].tolist() == [70]
    assert merge([logs_of([cut]), logs_of([complete])]).runs["top1_last"].tolist() == [70]
    both = merge([logs_of([later]), logs_of([complete])])
    assert both.runs["top1_last"].tolist() == [71]
    assert both.history["test/top1"].tolist() == [70, 71]
    assert any("runs in several sources, which count once: 1" in note for note in both.notes)
    assert merge([logs_of([logged(top1=top1)]) for top1 in (70, 71)]).runs["top1_last"].tolist() == [70]
    first, second = (
        logs_of([logged("kd"), logged("at", created=1)]),
        logs_of([logged("kd"), logged("sp", created=2)]),
    )
    every = merge([first, second])
    assert every.runs["label"].tolist() == ["kd", "at", "sp"]
    assert every.history.groupby("run_id").size().tolist() == [2, 2, 2]


def test_sources_with_other_metrics_are_joined():
    other = LoggedRun("other", history={"epoch": np.array([1.0]), "text": np.array(["a"], dtype=object)})
    history = merge([logs_of([logged()]), logs_of([other])]).history
    assert history["text"].isna().sum() == 2
    assert history.loc[history["run_id"] == "other", "test/top1"].isna().all()
    assert history["epoch"].dtype == np.int64


def test_a_metric_called_like_a_column_of_the_runs_is_refused(tmp_path):
    run = LoggedRun("r", history={"epoch": np.array([1.0]), "seed": np.array([1.0])})
    with pytest.raises(UserError, match="seed"):
        parquet.save(logs_of([run]), tmp_path / "logs.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing", "foreign"])
def test_files_of_others_are_refused(content, tmp_path):
    path = tmp_path / "logs.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(path) if content == "foreign" else path.write_bytes(content)
    with pytest.raises(UserError, match="logs.parquet"):
        load([str(path)])


def test_command_exports_and_says_how_much(tmp_path, capsys):
    parquet.save(logs_of(grid({("kd", VGG): [70.0, 71.0]})), tmp_path / "one.parquet")
    parquet.save(logs_of(grid({("kd", WRN): [72.0]})), tmp_path / "two.parquet")
    words = [f"source=[{tmp_path}/one.parquet,{tmp_path}/two.parquet]", f"out={tmp_path}/new/all.parquet"]
    assert main(COMMAND, words) == 0
    assert "3 runs, 6 rows of history" in capsys.readouterr().out
    assert len(load([f"{tmp_path}/new/all.parquet"]).runs) == 3
    assert main(COMMAND, [*words, "paths=false"]) == 0
    assert set(load([f"{tmp_path}/new/all.parquet"]).runs["config"].map(lambda c: c["data"]["root"])) == {"data"}


def test_published_commands_and_notes_keep_the_names_of_files():
    run = logged()
    run.source, run.folder = "/home/me/runs", "/home/me/runs/vgg13_vgg8/kd/1/wandb/offline-run-1"
    command = "python -m benchmarks.run method=kd 'teacher.checkpoint=\"/home/me/my files/vgg13.pth\"' seed=0"
    run.config |= {"command": command, "output": "/home/me/runs"}
    run.config["teacher"] |= {"checkpoint": "/home/me/my files/vgg13.pth", "source": "vgg13.pth", "root": None}
    logs = logs_of([run])
    public = without_places(Logs(logs.runs, logs.history, ("/home/me/runs/vgg13_vgg8: cut",)))
    (row,) = public.runs.to_dict("records")
    assert row["config"]["command"] == "python -m benchmarks.run method=kd teacher.checkpoint=vgg13.pth seed=0"
    assert (row["source"], row["folder"]) == ("runs", "vgg13_vgg8/kd/1/wandb/offline-run-1")
    assert public.notes == ("vgg13_vgg8: cut",)
    assert "/home/me" not in str(parquet.to_table(public).to_pylist())


def test_of_a_command_that_no_shell_reads_nothing_is_published():
    run = logged()
    run.config["command"] = "train --note it's --data /home/me/data"
    (row,) = without_places(logs_of([run])).runs.to_dict("records")
    assert row["config"]["command"] == ""


def test_links_to_pages_stay():
    run = logged()
    run.source, run.folder = "me/project", "https://wandb.example/me/project/runs/1"
    (row,) = without_places(logs_of([run])).runs.to_dict("records")
    assert (row["source"], row["folder"]) == (run.source, run.folder)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "out=FILE.parquet"),
        (["out=logs.csv"], ".parquet"),
        (["out=logs.parquet"], "source=runs"),
        (["out=logs.parquet", "source=nowhere.parquet"], "source=nowhere.parquet"),
        (["out=logs.parquet", "source={a: 1}"], "source="),
    ],
)
def test_mistakes_are_told_in_a_few_lines(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(COMMAND, words) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.splitlines()) <= 3
    assert not list(tmp_path.iterdir())


def test_columns_keep_every_value():
    assert column([1, 2.5, None]).tolist()[:2] == [1, 2.5]
    assert math.isnan(column([1, 2.5, None])[2])
    assert column([2**53 + 1, 1.0]).tolist() == [2**53 + 1, 1.0]
    assert column([True, 1]).tolist() == [True, 1]
    assert column([True, 1]).dtype == object
    assert column([]).dtype == np.float64
