"""Published results: everything beside the logs is made of them, and again the same."""

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from logged import grid, logged, logs_of

from analysis import parquet
from analysis.about import ABOUT, LOGS
from analysis.results import COMMAND
from analysis.results_page import seconds_spent
from benchmarks.cli import main
from sweeps import show

PUBLISHED = Path(__file__).parents[1] / "results"
TEXTS = (".md", ".tex", ".csv", ".json")
SAID = """\
title: Two methods
about: KD gains more than the student alone.
make:
  - analysis.table out=table.md
  - analysis.plot kind=gain out=[gain.png,gain.pdf]
"""


@pytest.fixture
def folder(tmp_path):
    result = tmp_path / "results" / "two"
    result.mkdir(parents=True)
    parquet.save(logs_of(grid({("none", "vgg13_vgg8"): [70, 71], ("kd", "vgg13_vgg8"): [72, 74]})), result / LOGS)
    (result / ABOUT).write_text(SAID)
    return result


def rebuild(folder):
    return main(COMMAND, [f"folder={folder.parent}"])


def test_a_result_is_rebuilt_byte_for_byte(folder):
    assert rebuild(folder) == 0
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert first.keys() == {
        ABOUT, LOGS, "README.md", "table.md", "table.md.provenance.json", "gain.png", "gain.pdf"
    }  # fmt: skip
    for path in folder.iterdir():
        if path.name not in (ABOUT, LOGS):
            path.unlink()
    assert rebuild(folder) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert "- [Two methods](two/README.md)" in (folder.parent / "README.md").read_text()


def test_the_page_shows_tables_pictures_commands_and_what_it_ran_on(folder):
    assert rebuild(folder) == 0
    page = (folder / "README.md").read_text()
    assert (folder / "table.md").read_text().strip() in page
    assert "73.00" in page
    assert "![gain.png](gain.png)" in page
    assert "    python -m analysis.plot source=logs.parquet kind=gain 'out=[gain.png,gain.pdf]'" in page
    for said in ("4 complete", "a processor", f"commit {'f' * 40}", "KD gains more"):
        assert said in page


def test_the_page_names_the_sources_where_there_was_no_commit_and_no_teacher_where_none_taught(folder):
    run = logged("none")
    del run.config["code"]["commit"]
    parquet.save(logs_of([run]), folder / LOGS)
    (folder / ABOUT).write_text("title: Alone\nabout: ''\nmake: [analysis.table out=table.md]\n")
    assert rebuild(folder) == 0
    page = (folder / "README.md").read_text()
    assert "| code | sources 123456abcdef |" in page
    assert "| teachers |" not in page


def test_the_page_shows_each_command_once_and_what_is_none_not_at_all(folder):
    """Quoted as they are today, however they were when they were logged."""
    runs = grid({("kd", "vgg13_vgg8"): [70, 71, 72, 73, 74]})
    logged = ["run 'label='\"'\"'a b'\"'\"''", "run \"label='a b'\"", "run it's", 3, None]
    for run, command in zip(runs, logged, strict=True):
        run.config["command"] = command
    parquet.save(logs_of(runs), folder / LOGS)
    (folder / ABOUT).write_text("title: Commands\nabout: ''\nmake: [analysis.table out=table.md]\n")
    assert rebuild(folder) == 0
    (shown,) = re.findall("To repeat each run:\n\n(.*)", (folder / "README.md").read_text(), flags=re.S)
    assert shown == "    run \"label='a b'\"\n"


def test_a_cohorts_time_counts_once():
    runs = [logged("kd"), logged("at"), logged("kd", seed=1)]
    for run in runs[:2]:
        run.config["cohort"] = ["kd", "at"]
    for run in runs:
        run.history["time/epoch_s"] = pd.Series([60.0, 40.0]).to_numpy()
    assert seconds_spent(logs_of(runs)) == 200
    runs[1].summary["pretraining/time_s"] = 30.0  # the cohort's other student waits meanwhile
    assert seconds_spent(logs_of(runs)) == 230


def test_times_of_several_runs_or_cohorts_under_the_same_names_all_count():
    """Of other settings, one by one, or of another teacher."""
    runs = [logged("kd", settings={"temperature": t}, id=f"{t}") for t in (2, 4)]
    for teacher in ("1" * 64, "2" * 64):
        runs += [logged(name, teacher=teacher, id=name + teacher[:1]) for name in ("at", "sp")]
    for run in runs:
        run.config["cohort"] = ["kd"] if run.config["label"] == "kd" else ["none", "at", "sp"]
        run.history["time/epoch_s"] = pd.Series([60.0, 40.0]).to_numpy()
    runs.append(logged("none"))  # with the first teacher's cohort
    runs[-1].config["cohort"] = ["none", "at", "sp"]
    runs[-1].history["time/epoch_s"] = runs[0].history["time/epoch_s"]
    assert seconds_spent(logs_of(runs)) == 400


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("title: [", "cannot be read"),
        ("title: a\nabout: b\n", "make"),
        (SAID + "more: 1\n", "nothing else"),
        (SAID + "  - benchmarks.run method=kd out=x\n", "benchmarks.run method=kd"),
        (SAID + "  - analysis.table format=latex\n", "out=FILE"),
        (SAID + "  - analysis.table 'out=a b.md\n", "'out=a b.md"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(folder, capsys, said, told):
    (folder / ABOUT).write_text(said)
    assert rebuild(folder) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert len(shown.splitlines()) <= 3
    assert {path.name for path in folder.iterdir()} == {ABOUT, LOGS}


def test_what_is_not_there_is_told(folder, tmp_path, capsys):
    assert main(COMMAND, [f"folder={tmp_path}/nothing"]) == 2
    (folder / LOGS).unlink()
    assert rebuild(folder) == 2
    assert "analysis.export" in capsys.readouterr().err


def test_a_command_that_fails_names_itself(folder, capsys):
    (folder / ABOUT).write_text(SAID + "  - analysis.table out=t.md methods=[nothing]\n")
    assert rebuild(folder) == 1
    assert "methods=[nothing]" in capsys.readouterr().err


def published():
    return sorted(path.parent.name for path in PUBLISHED.glob(f"*/{ABOUT}"))


@pytest.mark.parametrize("name", published())
def test_published_tables_and_pages_are_those_that_the_logs_give(name, tmp_path):
    """Pictures depend on matplotlib's version, texts do not."""
    copy = shutil.copytree(PUBLISHED / name, tmp_path / "results" / name)
    assert rebuild(copy) == 0
    texts = [path for path in copy.iterdir() if path.suffix in TEXTS]
    assert texts
    for path in texts:
        assert path.read_bytes() == (PUBLISHED / name / path.name).read_bytes(), path.name


def test_a_published_study_is_what_its_command_shows(tmp_path, capsys, monkeypatch):
    """The command stands in the page's text."""
    monkeypatch.chdir(PUBLISHED.parent)
    folder = PUBLISHED / "aftkd-blocks"
    (line,) = re.findall(r"python -m sweeps\.show (.*) > .*", (folder / ABOUT).read_text(encoding="utf-8"))
    words = [word for word in shlex.split(line) if not word.startswith("out=")]
    assert main(show.COMMAND, [*words, f"out={tmp_path}"]) == 0
    printed = [each.rstrip() for each in capsys.readouterr().out.splitlines() if not each.startswith("wrote ")]
    shown = (folder / "study.txt").read_text(encoding="utf-8").splitlines()
    assert printed == [each.rstrip() for each in shown if not each.startswith("wrote ")]
    assert {path.name for path in tmp_path.glob("*.png")} <= {path.name for path in folder.glob("*.png")}
