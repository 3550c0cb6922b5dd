"""What W&B's SDK logs offline comes back equal, and what is damaged is left out and said."""

import math
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged import logged, logs_of
from wandb.proto.wandb_internal_pb2 import Record
from wandb_logs import KEYS, ROWS, SCALARS, TREES, framed, log, log_file, same_values

from analysis import offline
from analysis.logs import load
from analysis.records import Losses, NoLog, records
from analysis.sources import SourceKind, kind_of, wandb_files
from benchmarks.errors import UserError


def flat(row):
    """Nested metrics by their path."""
    return {
        (f"{key}.{inner}" if isinstance(value, dict) else key): entry
        for key, value in row.items()
        for inner, entry in (value.items() if isinstance(value, dict) else [("", value)])
    }


@settings(max_examples=12)
@given(
    config=st.dictionaries(KEYS, TREES, max_size=4), rows=ROWS, summary=st.dictionaries(KEYS, SCALARS, max_size=3)
)
def test_what_is_logged_comes_back_equal(tmp_path_factory, config, rows, summary):
    rows = [{"epoch": epoch} | row for epoch, row in enumerate(rows, 1)]
    summary = {key: value for key, value in summary.items() if value == value}  # there, W&B turns NaN into null
    folder = log(tmp_path_factory.mktemp("logged"), rows, config=config, summary=summary)
    run = offline.read(log_file(folder))
    assert same_values(run.config, config)
    assert (run.id, run.name, run.group, run.folder) == ("run1", "name of run1", "a group", str(folder))
    assert not run.note
    assert set(run.history) == {name for row in rows for name in flat(row)}
    for name, column in run.history.items():
        for value, row in zip(column.tolist(), map(flat, rows), strict=True):
            found, expected = (math.nan if each is None else each for each in (value, row.get(name)))
            assert same_values(found, expected), name
    last = {}
    for row in rows:
        last |= {key: value for key, value in row.items() if value is not None}
    for name, value in (last | summary).items():
        if not isinstance(value, dict):
            assert same_values(run.summary[name], value), name


LONG = [
    {"epoch": k, "a/long name of a metric": k / 7, **{f"m{j}": k * j / 3 for j in range(40)}} for k in range(1, 61)
]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A log of several blocks, and what it holds."""
    path = log_file(log(tmp_path_factory.mktemp("long"), LONG, config={"a": 1}, summary={"status": "complete"}))
    run = offline.read(path)
    assert path.stat().st_size > 3 * 32768
    assert not run.note
    return path.read_bytes(), frame(run)


def frame(run):
    return pd.DataFrame(run.history).set_index("epoch") if run.history else pd.DataFrame()


def read_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("read") / "run-x.wandb"
    path.write_bytes(content)
    return offline.read(path)


@settings(max_examples=60)
@given(where=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_damaged_record_is_never_turned_into_a_number(tmp_path_factory, long_run, where, bit):
    content, whole = long_run
    damaged = bytearray(content)
    position = 7 + int(where * (len(content) - 8))
    damaged[position] ^= 1 << bit
    run = read_bytes(tmp_path_factory, bytes(damaged))
    left = frame(run)
    assert run.note
    assert len(left) >= len(whole) - 25  # a block holds about twenty
    pd.testing.assert_frame_equal(left[sorted(left)], whole.loc[left.index, sorted(left)])


@settings(max_examples=40)
@given(where=st.floats(0, 1))
def test_a_file_that_is_cut_off_is_read_up_to_there(tmp_path_factory, long_run, where):
    content, whole = long_run
    end = 7 + int(where * (len(content) - 7))
    run = read_bytes(tmp_path_factory, content[:end])
    left = frame(run)
    assert left.index.tolist() == list(range(1, len(left) + 1))
    if len(left):
        pd.testing.assert_frame_equal(left[sorted(left)], whole.loc[left.index, sorted(left)])
    more = read_bytes(tmp_path_factory, content[: end + 8192])
    assert len(frame(more)) >= len(left)


def test_a_file_cut_off_in_a_record_says_so(tmp_path_factory, long_run):
    content, whole = long_run
    name = content.rindex(b"a/long name of a metric", 0, len(content) // 2)  # it stands within a record
    run = read_bytes(tmp_path_factory, content[: name + 4])
    assert "the end is cut off" in run.note
    assert 0 < len(frame(run)) < len(whole)
    assert run.state == "unfinished"


@pytest.mark.parametrize("zeros", ["a block", "the rest", "more"])
def test_zeros_where_nothing_was_written_are_no_rows(tmp_path_factory, long_run, zeros):
    content, whole = long_run
    block = slice(2 * 32768, 3 * 32768)
    changed = {
        "a block": content[: block.start] + bytes(32768) + content[block.stop :],
        "the rest": content[: block.start + 100] + bytes(len(content) - block.start - 100),
        "more": content + bytes(100_000),
    }[zeros]
    run = read_bytes(tmp_path_factory, changed)
    assert "damaged" in run.note
    left = frame(run)
    assert len(left) == len(whole) if zeros == "more" else 15 < len(left) < len(whole)
    pd.testing.assert_frame_equal(left[sorted(left)], whole.loc[left.index, sorted(left)])


@given(st.lists(st.binary(max_size=100_000), max_size=5))
def test_records_of_any_size_come_back(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("framed") / "run-x.wandb"
    path.write_bytes(framed(content))
    losses = Losses()
    assert list(records(path, losses)) == content
    assert not str(losses)


def test_what_is_no_log_is_left_out_and_said(tmp_path):
    (tmp_path / "run-a.wandb").write_bytes(b"something else")
    with pytest.raises(NoLog, match="is not a W&B log"):
        offline.read(tmp_path / "run-a.wandb")
    (tmp_path / "run-b.wandb").write_bytes(framed([b"\x12\xff\xff"]))
    logs = load([str(tmp_path)])
    assert logs.runs.index.tolist() == ["b"]
    assert "damaged pieces left out: 1" in " ".join(logs.notes)
    assert "run-a.wandb is not a W&B log" in " ".join(logs.notes)


def test_segments_of_a_run_are_joined_and_the_later_row_counts(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"  # W&B's own names tell seconds apart
    for place in (first, second):
        place.mkdir()
    rows = [{"epoch": k, "loss": float(k)} for k in (1, 2, 3)]
    log(first, rows, config={"seed": 1}, summary={"status": "failed"})
    last = log(second, [{"epoch": 2, "loss": 20.0}, {"epoch": 4, "top": 1.0}], config={"seed": 2})
    logs = load([str(tmp_path)])
    assert logs.runs.index.tolist() == ["run1"]
    run = logs.runs.loc["run1"]
    assert (run["state"], run["seed"], run["folder"]) == ("unfinished", 2, str(last))
    assert logs.history["epoch"].tolist() == [1, 2, 3, 4]
    assert logs.history["loss"].tolist()[:3] == [1.0, 20.0, 3.0]
    assert np.isnan(logs.history["loss"][3])
    assert logs.history["top"].isna().tolist() == [True, True, True, False]


def test_a_segment_begun_after_the_run_was_complete_takes_nothing_away():
    complete, cut = logged(top1=70, created=1.0), logged(top1=60, status=None, created=2.0)
    logs = logs_of([complete, cut])
    assert logs.runs["top1_last"].tolist() == [70]
    assert logs.history["test/top1"].tolist() == [69, 70]
    assert "left out: 1" in logs.notes[0]
    assert logs_of([complete, cut, logged(top1=71, created=3.0)]).runs["top1_last"].tolist() == [71]
    assert logs_of([cut, complete]).runs["top1_last"].tolist() == [70]


def test_rows_of_one_epoch_are_one_and_rows_of_none_are_counted(tmp_path):
    rows = [{"epoch": 1, "a": 1.0}, {"epoch": 1, "b": 2.0}, {"epoch": 1.5, "a": 9.0}, {"epoch": "two", "a": 9.0}]
    log(tmp_path, rows)
    logs = load([str(tmp_path)])
    assert logs.history[["epoch", "a", "b"]].to_numpy().tolist() == [[1, 1.0, 2.0]]
    assert any("rows without an epoch left out: 2" in note for note in logs.notes)


def test_a_summary_may_be_another_than_the_last_value(tmp_path):
    rows = [{"epoch": k, "loss": loss, "top": loss} for k, loss in enumerate((3.0, 1.0, 2.0), 1)]
    run = offline.read(log_file(log(tmp_path, rows, define={"loss": "min"})))
    assert run.summary["top"] == 2.0
    assert run.summary["loss"] in (1.0, {"min": 1.0})


def test_a_summary_set_by_hand_holds_until_the_next_row(tmp_path):
    folder = log(tmp_path, [{"epoch": 1, "a": 1.0}], summary={"a": 5.0, "status": "complete"})
    run = offline.read(log_file(folder))
    assert (run.summary["a"], run.state) == (5.0, "complete")


def test_values_that_are_not_given_as_json_are_read_too(tmp_path):
    record, values = Record(), {"epoch": 1, "a": 1.5, "b": True, "c": "ü", "d": [1, 2], "e": None, "n": math.nan}
    for name, value in values.items():
        item = record.history.item.add(nested_key=[name])
        kind = {int: "integer", float: "number", bool: "boolean", str: "text", list: "json"}.get(
            type(value), "none"
        )
        setattr(item, kind, {"json": "[1, 2]", "none": 0}.get(kind, value))
    (tmp_path / "run-a.wandb").write_bytes(framed([record.SerializeToString()]))
    history = offline.read(tmp_path / "run-a.wandb").history
    assert {name: column[0] for name, column in history.items() if name not in "en"} == {
        name: value for name, value in values.items() if name not in "en"
    }
    assert np.isnan([history["e"][0], history["n"][0]]).all()


def test_links_are_not_followed(tmp_path):
    log(tmp_path, [{"epoch": 1, "a": 1.0}])
    assert (tmp_path / "wandb" / "latest-run").is_symlink()
    assert len(list(wandb_files(tmp_path))) == 1


def copies(folder, content, number):
    """A run's log under other ids."""
    original = folder / "original"
    original.write_bytes(content)
    head = []
    for raw in records(original, Losses()):
        head.append(Record.FromString(raw))
        if head[-1].WhichOneof("record_type") == "run":
            break
    length = len(head[-1].run.run_id)
    for k in range(number):
        head[-1].run.run_id = f"{k:0{length}}"
        place = folder / f"offline-run-{k}"
        place.mkdir()
        # Ids of one length: everything behind the run's record stays as it is.
        start = framed(record.SerializeToString() for record in head)
        (place / f"run-{k}.wandb").write_bytes(start + content[len(start) :])


def test_many_files_are_read_in_parallel_with_the_same_result(tmp_path, long_run, monkeypatch):
    copies(tmp_path, long_run[0], offline.WORTH_A_POOL)
    parallel = load([str(tmp_path)])
    monkeypatch.setattr(offline, "_processors", lambda: 1)
    alone = load([str(tmp_path)])
    assert len(parallel.runs) == offline.WORTH_A_POOL
    assert len(parallel.history) == offline.WORTH_A_POOL * len(LONG)
    pd.testing.assert_frame_equal(parallel.runs, alone.runs)
    pd.testing.assert_frame_equal(parallel.history, alone.history)


@pytest.mark.slow
def test_a_thousand_runs_of_240_epochs_are_read_in_20_seconds(tmp_path):
    names = [f"train/loss/term{k}" for k in range(8)] + [f"train/weight/term{k}" for k in range(8)]
    rows = [{"epoch": k, **dict.fromkeys(names, k / 7)} for k in range(1, 241)]
    copies(tmp_path, log_file(log(tmp_path, rows)).read_bytes(), 1000)
    before = os.times()
    logs = load([str(tmp_path)])
    spent = [after - then for after, then in zip(os.times()[:4], before[:4], strict=True)]
    assert len(logs.history) == 1001 * 240
    assert not logs.notes
    assert sum(spent) / 2 < 20  # on two cores, whatever else they do


def test_a_directory_without_runs_is_told_from_none_and_from_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="source=empty holds no W&B runs"):
        load(["empty"])
    for source in ("nowhere", "empty/nothing", "/no/such/place", "./a", "a/b/c"):
        with pytest.raises(UserError, match=f"source={source}: no such directory"):
            load([source])
    assert kind_of("me/project") == SourceKind.project
