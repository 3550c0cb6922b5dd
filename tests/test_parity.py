"""What is fast must learn the same: the parity command, and what it finds on digits."""

import json
import statistics

import numpy as np
import pytest
import torch
from commands import TINY, few_digits, injected, merge
from scipy import integrate, stats

from benchmarks import parity
from benchmarks.cli import compose_config, main
from benchmarks.config import Precision
from benchmarks.errors import RunFailed
from benchmarks.plain_loop import PlainLoop
from benchmarks.protocol import resolve
from benchmarks.words import signed
from benchmarks.workbench import Workbench
from methods import Method, Pretraining

WORDS = (*TINY, "methods=[kd]", "repeats=2", "workers=0")


@pytest.fixture
def compare(tmp_path, teacher_root):
    """Runs the command on a tiny configuration; returns the exit status."""

    def run(*words):
        base = [*WORDS, f"output={tmp_path / 'runs'}", f"teacher.root={teacher_root}"]
        with few_digits():
            return main(parity.COMMAND, merge(base, words))

    return run


def config(*words):
    return resolve(*compose_config(parity.COMMAND, merge(WORDS, words)))[0]


def test_it_compares_a_plain_loop_with_ours_and_writes_every_figure(compare, capsys, tmp_path):
    out = tmp_path / "figures" / "parity.json"
    assert compare("methods=[none,kd]", f"out={out}") == 0
    printed, raw = capsys.readouterr().out, json.loads(out.read_text())
    assert list(raw["top1"]) == ["plain loop", "fp32"]
    for label in ("none", "kd"):
        plain, ours = raw["top1"]["plain loop"][label], raw["top1"]["fp32"][label]
        assert len(plain) == len(ours) == 2
        assert f"{statistics.mean(plain):.2f} ± {statistics.stdev(plain):.2f}" in printed
        assert f"{signed(statistics.mean(ours) - statistics.mean(plain))} (" in printed
    assert [len(runs) for runs in raw["runs"].values()] == [4, 4]
    assert all(raw["code"].items() <= run["code"].items() for runs in raw["runs"].values() for run in runs)
    assert raw["environment"]["libraries"]["torch"] == torch.__version__


def test_a_missing_teacher_is_trained_in_the_way_that_was_asked_for(compare, monkeypatch, tmp_path):
    plans = []

    def train_teacher(bench, plan):
        plans.append(plan)
        raise RunFailed("enough")

    monkeypatch.setattr(Workbench, "train_teacher", train_teacher)
    words = ("train.precision=bf16", "train.batch_size=2")  # many a processor does not compute in bfloat16
    assert compare(*words, f"teacher.root={tmp_path / 'store'}") == 1
    assert [plan.train.precision for plan in plans] == [Precision.bf16]


def test_what_is_complete_is_not_trained_again(compare, capsys, monkeypatch):
    assert compare() == 0
    table = capsys.readouterr().out.split("\n\n")[-1]
    trained = []
    run_epoch = PlainLoop.run_epoch
    monkeypatch.setattr(PlainLoop, "run_epoch", lambda loop: trained.append(loop.config.seed) or run_epoch(loop))
    assert compare() == 0
    assert trained == []
    printed = capsys.readouterr().out
    assert printed.split("\n\n")[-1] == table
    assert "epoch" not in printed.split("training and")[1]
    assert compare("repeats=3") == 0
    assert trained == [2, 2]


def test_a_seed_gives_the_same_plain_student_again(compare, capsys, tmp_path):
    reached = []
    for name in ("one", "other"):
        out = tmp_path / f"{name}.json"
        assert compare(f"out={out}", f"output={tmp_path / name}") == 0
        reached.append(json.loads(out.read_text())["top1"])
    assert reached[0] == reached[1]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["train.precision=fp32"], ["fp32"]),
        (["train.precision=bf16"], ["fp32", "bf16"]),
        (["train.precision=bf16", "train.compile=true"], ["fp32", "bf16", "bf16 compiled"]),
    ],
)
def test_ways_of_a_cpu(words, names):
    assert [way.name for way in parity.ways(config(*words))] == names


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["train.precision=bf16"], ["fp32 launched", "fp32 replayed", "bf16 launched", "bf16 replayed"]),
        (["train.precision=fp32", "train.graph=false"], ["fp32 launched"]),
        (
            ["train.precision=fp32", "train.compile=true"],
            ["fp32 launched", "fp32 replayed", "fp32 replayed compiled"],
        ),
    ],
)
def test_ways_of_a_gpu(words, names, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = parity.ways(config("train.device=cuda", *words))
    assert [way.name for way in found] == names
    assert [way.graph for way in found] == ["replayed" in name for name in names]
    assert [way.precision == Precision.bf16 for way in found] == ["bf16" in name for name in names]
    assert [way.compile for way in found] == ["compiled" in name for name in names]


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("repeats=1", "repeats=1"),
        ("workers=-1", "workers=-1"),
        ("train.optimizer=dot", "train.optimizer=dot"),
        ("methods=[kd,ab]", "method ab"),
    ],
)
def test_what_cannot_be_compared_is_refused(compare, capsys, tmp_path, word, named):
    assert compare(word) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_method_is_refused_for_the_stage_that_it_has(compare, monkeypatch, capsys):
    class Injected(Method):
        needs = frozenset({"logits"})
        pretraining = Pretraining(0.5, ("injected",), frozenset({"logits"}))

    with injected(Injected):
        assert compare("methods=[injected]") == 2
    assert "method injected has a stage" in capsys.readouterr().err

    def open_workbench(*_):
        raise RunFailed("not refused")

    monkeypatch.setattr(parity, "open_workbench", open_workbench)
    assert compare("methods=[{name: sskd, weights: {ss: 0}}]") == 1
    assert "not refused" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file/raw.json", "folder"])
def test_where_the_figures_cannot_be_written_nothing_is_trained(place, compare, monkeypatch, capsys, tmp_path):
    monkeypatch.delattr(parity, "open_workbench")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert compare(f"out={tmp_path}/{place}") == 2
    assert f"out={tmp_path}/{place[:4]}" in capsys.readouterr().err


def test_the_interval_is_that_of_the_behrens_fisher_problem_by_welch():
    ours, theirs = [51.0, 52.5, 50.25, 51.75], [50.0, 53.0, 51.0]
    difference, low, high = parity.interval(ours, theirs)
    errors = [np.var(values, ddof=1) / len(values) for values in (ours, theirs)]
    freedom = sum(errors) ** 2 / sum(e**2 / (len(v) - 1) for e, v in zip(errors, (ours, theirs), strict=True))
    half = (high - low) / 2
    assert difference == pytest.approx(np.mean(ours) - np.mean(theirs)) == pytest.approx((low + high) / 2)
    inside, _ = integrate.quad(stats.t(freedom).pdf, *(np.array([-half, half]) / np.sqrt(sum(errors))))
    assert inside == pytest.approx(0.95)


def test_an_interval_where_nothing_varies_is_a_point():
    assert parity.interval([50.0, 50.0], [49.0, 49.0]) == (1, 1, 1)


# Long enough that students of digits come near their best, where seeds differ by a point or two.
LONG = ("train.epochs=12", "train.max_steps=null", "train.milestones=[9]", "teacher.epochs=12", "repeats=3")


CUDA = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
)


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=CUDA)])
def test_students_are_as_accurate_as_those_of_a_plain_loop(compare, tmp_path, device):
    out = tmp_path / "parity.json"
    words = ("methods=[kd,aftkd]", f"train.device={device}", "train.precision=auto")
    assert compare(*LONG, *words, f"teacher.root={tmp_path / 'teachers'}", f"out={out}") == 0
    top1 = json.loads(out.read_text())["top1"]
    plain = top1.pop("plain loop")
    for label, reference in plain.items():
        assert statistics.mean(reference) > 60  # they have learned at all: chance is 10
        for ours in top1.values():
            # Equal on average within the spread of seeds, or one image of the 70.
            difference = statistics.mean(ours[label]) - statistics.mean(reference)
            assert abs(difference) <= max(max(reference) - min(reference), 100 / 70)
