"""The page of all methods: what is committed is what the command writes, but for the times."""

import re
from pathlib import Path

import pytest

import methods
from benchmarks import method_table
from benchmarks.cli import compose_config, main
from benchmarks.pairs import PAIRS

PAGE = Path(method_table.__file__).parents[1] / "methods" / "README.md"
WORDS = ("train.threads=1", "train.batch_size=2", "repeats=1", "train.precision=fp32", "train.device=cpu")


def without_measurements(page):
    return re.sub(r"\d+\.\d ×|(?m:^\w+, batch \d+, .*\.$)", "…", page)


def rows(page):
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row for row in cells}


def test_the_page_is_what_the_command_writes(tmp_path, monkeypatch):
    """Regenerate it with `python -m benchmarks.method_table` where this fails."""
    monkeypatch.setattr(method_table.Bench, "_steps", lambda self, member, count: None)
    out = tmp_path / "page.md"
    assert main(method_table.COMMAND, [*WORDS, f"out={out}"]) == 0
    assert without_measurements(out.read_text(encoding="utf-8")) == without_measurements(
        PAGE.read_text(encoding="utf-8")
    )


def test_the_page_has_a_measured_row_for_every_method():
    page = PAGE.read_text(encoding="utf-8")
    assert list(rows(page)) == list(methods.available())
    for name, row in rows(page).items():
        step, served = row[-2], row[-1]
        assert 0.5 < float(step.removesuffix(" ×")) < 100, name
        assert served == f"{len(PAIRS)} of {len(PAIRS)}" or f"- `{name}`: " in page


def test_a_step_is_measured_against_the_student_alone(tmp_path):
    typed = ["pair=resnet56_resnet20", *WORDS, f"out={tmp_path / 'page.md'}"]
    bench = method_table.Bench(method_table.configured(*compose_config(method_table.COMMAND, typed)))
    assert bench.cost("kd").step > 1.1  # 56 layers forward beside 20 forward and backward
    assert bench.cost("fitnet").parameters == 32 * 32 + 3 * 32  # 1 × 1 convolution with bias, batch norm


@pytest.mark.parametrize(
    ("words", "measured"),
    [([], {"crd"}), (["rerun=true"], {"kd", "crd"}), (["train.batch_size=3"], {"kd", "crd"})],
)
def test_only_what_the_page_lacks_is_measured_where_the_others_were(words, measured, tmp_path, monkeypatch):
    out = tmp_path / "page.md"
    page = PAGE.read_text(encoding="utf-8")
    out.write_text(re.sub(r"(?m)^\| `crd` .*\n", "", page), encoding="utf-8")
    monkeypatch.setattr(method_table, "available", lambda: ("none", "kd", "crd"))
    monkeypatch.setattr(method_table.Bench, "_step", lambda bench, cohort: 2.5)
    assert main(method_table.COMMAND, [f"out={out}", *words]) == 0
    before, now = rows(page), rows(out.read_text(encoding="utf-8"))
    assert list(now) == ["none", "kd", "crd"]
    for name, row in now.items():
        assert row == [*before[name][:-2], "2.5 ×" if name in measured else before[name][-2], before[name][-1]]


@pytest.mark.parametrize("place", ["file/page.md", "folder"])
def test_where_the_page_cannot_be_written_nothing_is_measured(place, monkeypatch, capsys, tmp_path):
    monkeypatch.delattr(method_table, "Bench")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert main(method_table.COMMAND, [*WORDS, f"out={tmp_path}/{place}"]) == 2
    assert f"out={tmp_path}/{place[:4]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "word",
    [
        "repeats=0",
        "train.batch_size=0",
        "pair=custom",
        "pair.teacher=resnet20",
        "train.delta=0.075",
        "train.optimizer=dot",
    ],
)
def test_settings_that_cannot_be_are_refused(word, capsys, tmp_path):
    words = [each for each in WORDS if each.split("=")[0] != word.split("=")[0]]
    assert main(method_table.COMMAND, [*words, word, f"out={tmp_path / 'page.md'}"]) == 2
    assert word.split("=")[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
