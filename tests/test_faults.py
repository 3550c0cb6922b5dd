"""Damaged files and kills in short; `python tests/faults` is the long version, with a table."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import files, interrupted_at, result, run_folders
from faults.__main__ import KILLS
from faults.damage import SUBJECTS, try_damages
from studies import SMALL, shown, study

from benchmarks import results
from benchmarks.files import read_record
from benchmarks.identity import code_version, method_version, network_version
from sweeps import conduct

ROOT = Path(__file__).parent.parent
FLIPS = 60
FEWER = {"study on SQLite": 8}  # opening one takes long


@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_damaged_file_is_refused_or_recovered_from(kind, tmp_path):
    flips = FEWER.get(kind, FLIPS)
    outcome = try_damages(SUBJECTS[kind](tmp_path), flips)
    assert outcome.tried >= flips
    assert not outcome.wrong, "\n".join(outcome.wrong[:10])


def faults(*words):
    """The command that prints the table; gives its exit status and its rows by the fault's name."""
    command = [sys.executable, "tests/faults", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    rows = [line.rsplit(maxsplit=3) for line in done.stdout.splitlines() if line[:1].strip()]
    return done.returncode, {row[0].strip(): row[1:] for row in rows}, done.stdout + done.stderr


@pytest.mark.parametrize(
    "counts",
    [
        {"run": 1, "suite": 0, "teacher": 0, "cache": 0, "sweep": 0, "journal": 0},
        pytest.param(KILLS, marks=pytest.mark.slow),
    ],
    ids=["few", "many"],
)
def test_kills_lose_nothing(counts):
    status, rows, shown = faults("only=kills", *(f"kills.{name}={count}" for name, count in counts.items()))
    assert status == 0, shown
    for name, count in counts.items():
        if count:
            assert rows[f"SIGKILL: {name}"] == [str(count), str(count), "0"]


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
@pytest.mark.parametrize("content", [b"no storage", b"[1]\n"], ids=["text", "json"])
def test_another_file_in_the_place_of_a_study(storage, content, tmp_path, capsys, monkeypatch):
    """It is neither taken for a new study nor changed."""
    monkeypatch.setattr(conduct, "open_workbench", None)  # nothing is trained
    path = tmp_path / "studies"
    path.write_bytes(content)
    where = f"storage={storage}:///{path}"
    for show in (True, False):
        status = shown("study=a", where) if show else study(*SMALL, "space=aftkd", where, f"output={tmp_path}")
        message = capsys.readouterr().err
        assert status == 2
        assert "is damaged" in message
        assert "restore a copy of it" in message
        assert len(message.splitlines()) <= 4
    assert files(tmp_path) == {"studies"}
    assert path.read_bytes() == content


def test_what_a_full_disk_left_of_a_journals_last_entry_is_dropped(tmp_path, capsys):
    subject = SUBJECTS["study's journal"](tmp_path)
    whole, intact = subject.path.read_bytes(), subject.read()
    subject.path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:20])
    assert subject.read() == intact
    assert "written in part" in capsys.readouterr().err
    assert subject.path.read_bytes() == whole


def test_a_run_continued_by_other_code_says_so(distil, tmp_path, monkeypatch, capsys):
    """In the terminal and in its result; a run of one version says nothing of the kind."""
    began = code_version() | method_version("none") | network_version("resnet8", "digits")
    with interrupted_at(4):
        assert distil("method=none") == 143
    assert "another version" not in capsys.readouterr().out
    now = began | {"sources": "0123456789ab"}
    monkeypatch.setattr(results, "code_version", lambda: now)
    assert distil("method=none") == 0
    assert f"another version of the code ({began['sources']})" in capsys.readouterr().out
    assert result(tmp_path / "runs", "none")["config"]["code"] == now | {"before": [began]}
    assert distil("method=none", "seed=1", f"output={tmp_path / 'other'}") == 0
    assert result(tmp_path / "other", "none")["config"]["code"] == now


def test_a_complete_run_of_a_method_that_was_edited_since_says_how_to_run_the_present_one(
    distil, tmp_path, monkeypatch, capsys
):
    assert distil("method=none") == 0
    assert distil("method=none") == 0
    assert "another version" not in capsys.readouterr().out
    monkeypatch.setattr(results, "method_version", lambda name: {"method_sources": "0123456789ab"})
    assert distil("method=none") == 0
    assert "another version of the method's own file; rerun=true" in " ".join(capsys.readouterr().out.split())
    assert distil("method=none", "rerun=true") == 0
    assert "another version" not in capsys.readouterr().out
    noted = {
        read_record(path)["config"]["code"]["method_sources"] for path in (tmp_path / "runs").rglob("result.json")
    }
    assert noted == {"0123456789ab", *method_version("none").values()}


def test_a_complete_run_of_a_network_that_was_edited_since_says_so(distil, monkeypatch, capsys):
    assert distil("method=none") == 0
    monkeypatch.setattr(results, "network_version", lambda *names: {"network_sources": "0123456789ab"})
    assert distil("method=none") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "another version of the network's or data set's own file; rerun=true" in shown
    assert distil("method=none", "rerun=true") == 0
    capsys.readouterr()
    assert distil("method=none") == 0
    assert "another version" not in capsys.readouterr().out


def test_of_several_attempts_the_one_of_the_present_code_counts(distil, output, monkeypatch, capsys):
    """So that a run need not be trained again by a version that it was trained by."""

    def folder_of(*words):
        assert distil("method=none", *words) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("none: /"))

    first = folder_of()
    edited, later = ({"method_sources": digest * 12} for digest in "ab")
    monkeypatch.setattr(results, "method_version", lambda name: edited)
    assert folder_of() == first  # the only one
    second = folder_of("rerun=true")
    assert first != second
    assert folder_of() == second
    monkeypatch.setattr(results, "method_version", lambda name: later)
    assert folder_of() == first  # neither
    monkeypatch.undo()
    assert folder_of() == first
    monkeypatch.setattr(results, "code_version", lambda: code_version() | {"sources": "c" * 12})
    assert folder_of() == first  # another code, but the same method
    assert len(run_folders(output, "none")) == 2
