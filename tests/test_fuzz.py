"""Random keys and values on the command line: a clear refusal, or values that make sense; never a traceback.

Training is stubbed out at the last moment: what begins to rehearse would have begun to train.
"""

import contextlib
import dataclasses
import io
import math
import os
import tempfile
from copy import deepcopy
from pathlib import Path

import pytest
from commands import TINY, few_digits, merge
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lines import SMALL, _composed
from logged import logged, logs_of
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import methods
from analysis import export as export_command
from analysis import page
from analysis import plot as plot_command
from analysis import report as report_command
from analysis import table as table_command
from analysis.parquet import save
from benchmarks import parity as parity_command
from benchmarks import run as run_command
from benchmarks import status as status_command
from benchmarks import teacher as teacher_command
from benchmarks import throughput as throughput_command
from benchmarks.cli import check_lists, leaves, main
from benchmarks.config import plain
from benchmarks.data import digits
from benchmarks.errors import UserError
from benchmarks.suite import command as suite_command
from benchmarks.suite.command import COMMAND as SUITE
from benchmarks.workbench import Workbench
from methods import InvalidSetting
from sweeps import conduct
from sweeps import fair as fair_command
from sweeps import run as sweep_command
from sweeps import show as show_command

MOST_LINES = 12
METHODS = methods.available()
FEW = settings(max_examples=25, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=200, suppress_health_check=list(HealthCheck))


class Started(BaseException):
    """Training would begin now."""

    def __init__(self, students):
        self.students = students


@pytest.fixture(scope="module", autouse=True)
def last_moment():
    """No training, no network, no thread, and no file but in a temporary folder."""

    def rehearse(bench, what, students, specs):
        bench.batches(students[0])
        raise Started(students)

    def started(*_):
        raise Started([])

    def no_network(*_, **__):
        raise OSError("no network")

    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch, few_digits():
        patch.setattr(Workbench, "rehearse", rehearse)
        patch.setattr(Workbench, "measure", started)
        patch.setattr(throughput_command, "open_workbench", started)
        patch.setattr(suite_command, "_train", started)
        patch.setattr(conduct, "open_workbench", started)
        patch.setattr(plot_command, "_view", started)
        patch.setattr(page, "page", started)
        patch.setattr("socket.getaddrinfo", no_network)
        patch.setattr(teacher_command, "prepare_torch", lambda train: None)
        for name in ("WANDB_MODE", "KD_DATA"):
            patch.delenv(name, raising=False)
        os.chdir(folder)
        save(logs_of([logged(), logged("none"), logged("at")]), Path("runs.parquet"))
        yield
        os.chdir(before)


# --- values, beyond the grammar

NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 3, 10**9, 2**31, 2**63, 10**40, 0.0, 1.5, 5e-324, 1e308]),
    st.integers(),
    st.floats(),
)
WORDS = st.one_of(
    st.sampled_from(
        ["kd", "cpu", "offline", "fp32", "adaptive", "null", "nan", "a/b", "a" * 5000, "é☃", "<b>", " "]
    ),
    st.text(st.characters(exclude_characters="\0/."), max_size=8),
)
PLAIN = st.one_of(NUMBERS, WORDS, st.booleans(), st.none())
VALUES = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=3),
    st.lists(st.lists(NUMBERS, max_size=3), max_size=3),
    st.dictionaries(st.sampled_from(["ce", "kd", "name", "label", "x"]), PLAIN, max_size=2),
)
POSITIVE = (lambda value: 0 < value < math.inf, "above 0")
COUNT = (lambda value: value >= 1, "at least 1")
PART = (lambda value: 0 <= value < 1, "in [0, 1)")
SENSE = {
    "epochs": COUNT,
    "batch_size": (lambda value: 1 <= value <= len(digits.load("train")), "of the images that there are"),
    "lr": POSITIVE,
    "momentum": PART,
    "weight_decay": (lambda value: 0 <= value < math.inf, "at least 0"),
    "decay": (lambda value: 0 < value <= 1, "in (0, 1]"),
    "max_steps": (lambda value: value is None or value >= 1, "at least 1"),
    "threads": (lambda value: 1 <= value <= 1024, "a number of threads"),
    "milestones": (lambda value: value == sorted(set(value)) and min(value, default=1) >= 1, "ascending"),
    "validation": PART,
    "seed": (lambda value: value >= 0, "at least 0"),
    "temperature": POSITIVE,
    "contrast_temperature": POSITIVE,
    "smoothing": PART,
    "windows": COUNT,
    "dim": COUNT,
    "num_negatives": COUNT,
    "degree": (lambda value: 0 <= value <= 1, "in [0, 1]"),
    "p": POSITIVE,
    "weights": (lambda value: min(value.values()) >= 0 < max(value.values()), "not negative, and not all 0"),
}


def check_sense(content, key=""):
    """Every number in it is one, and those whose meaning is known here can mean it."""
    check, meaning = SENSE.get(key, (lambda value: True, ""))
    assert check(content), f"{key}={content} is not {meaning}"
    if isinstance(content, dict):
        for name, value in content.items():
            check_sense(value, name)
    elif isinstance(content, list):
        for value in content:
            check_sense(value)
    elif isinstance(content, float):
        assert math.isfinite(content), key


def composed(method):
    return _composed(tuple(sorted(["data=digits", f"method={method}", "pair=custom"])))


@st.composite
def settings_of_runs(draw):
    method = draw(st.sampled_from(METHODS))
    known = [key for key in leaves(composed(method)) if not key.endswith("name")]
    chosen = draw(st.lists(st.sampled_from(known), min_size=1, max_size=2, unique=True))
    return method, {key: draw(VALUES) for key in chosen}


def attempt(method, chosen):
    """What `benchmarks.run` makes of values that were composed: `Started`, or the message of its refusal."""
    config = deepcopy(composed(method))
    small = dict(word.split("=") for word in SMALL if word.startswith("pair."))
    for key, value in (small | chosen).items():
        try:
            OmegaConf.update(config, key, value, force_add=False)
        except OmegaConfBaseException as error:  # the grammar's refusal, see below
            return str(error)
    try:
        check_lists(config)
        run_command.execute(config, frozenset(chosen))
    except Started as started:
        return started
    except (UserError, InvalidSetting) as error:
        return str(error)
    raise AssertionError("neither refused nor started")


@MANY
@given(settings_of_runs())
def test_a_value_makes_sense_or_is_refused(drawn):
    method, chosen = drawn
    outcome = attempt(method, chosen)
    if isinstance(outcome, Started):
        for student in outcome.students:
            check_sense(plain(student))
    else:
        assert 1 <= len(outcome.splitlines()) <= MOST_LINES


@pytest.mark.slow
@settings(MANY, max_examples=3000)
@given(settings_of_runs())
def test_a_value_makes_sense_or_is_refused_at_length(drawn):
    test_a_value_makes_sense_or_is_refused.hypothesis.inner_test(drawn)


# --- whole lines

ODD = """-1 0 nan inf 1e309 1e-400 0x10 1_000 true null ~ [] {} [1,2 [[]] {a:1} '' 'a=b' ${oc.env:HOME} ${seed} ???
[???] ../x a/b $(id) `id` !!python/object \\ 1,2 'x # @ % : a:b glob(*) choice(1,2) int(3) float(nan) {name:kd}
[{name:kd,label:''}] [kd,at] [kd,kd] [null] interval(0,1)"""
RAW = st.one_of(st.sampled_from(ODD.split()), st.text(max_size=6))
ALONE = [word for word in TINY if not word.startswith("pair")]
SEARCHED = [word for word in TINY if not word.startswith("train.epochs")]
COMMANDS = {
    "run": (run_command.COMMAND, ["method=kd", *TINY]),
    "teacher": (teacher_command.COMMAND, ["network=resnet8", "data=digits", "train.epochs=1"]),
    "throughput": (throughput_command.COMMAND, ["method=kd", *TINY]),
    "parity": (parity_command.COMMAND, ["method=kd", *TINY]),
    "suite": (SUITE, ["methods=[kd]", "pairs=[{teacher: resnet8, student: resnet8}]", *ALONE]),
    "status": (status_command.COMMAND, ["output=nothing"]),
    "sweep": (sweep_command.COMMAND, ["space=kd", "trials=2", *SEARCHED]),
    "fair": (fair_command.COMMAND, ["methods=[kd,at]", "trials=2", *SEARCHED]),
    "show": (show_command.COMMAND, ["study=a"]),
    "table": (table_command.COMMAND, ["source=runs.parquet"]),
    "plot": (plot_command.COMMAND, ["source=runs.parquet", "kind=curves"]),
    "report": (report_command.COMMAND, ["source=runs.parquet", "out=report.html"]),
    "export": (export_command.COMMAND, ["source=runs.parquet", "out=again.parquet"]),
}
LATER = sorted(COMMANDS.keys() - {"run", "teacher", "throughput", "parity"})
MAY_END_WELL = {"suite", "status", "table", "export"}  # a dry run, or no training at all


def check_line(name, words):
    """A line ends with status 2 and a few clear lines, or would begin to train."""
    command, base = COMMANDS[name]
    out, err, before = io.StringIO(), io.StringIO(), set(os.listdir())
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(Started):
        status = main(command, merge(base, words))
        if status == 0:  # where it was asked for help
            assert name in MAY_END_WELL or {"help", "-h", "--help"} & set(words)
            return
        assert status == 2, (words, out.getvalue())
        message = err.getvalue().removeprefix("reading and comparing runs\n")  # which takes a report seconds
        assert message.startswith("error: ")
        assert len(message.splitlines()) <= MOST_LINES
        message.encode()
        assert set(os.listdir()) == before


@st.composite
def lines(draw, names):
    name = draw(st.sampled_from(names))
    command, base = COMMANDS[name]
    fields = [field.name for field in dataclasses.fields(command.config)]
    keys = [*fields, *(word.partition("=")[0] for word in base), "preset", "train.lr", "loss.floor", "hydra.x", "x"]
    key = draw(st.one_of(st.sampled_from(keys), st.sampled_from(keys), st.text(max_size=6)))
    return name, [draw(st.one_of(st.just(f"{key}={draw(RAW)}"), RAW))]


@FEW
@given(lines(sorted(COMMANDS.keys() - set(LATER))))
def test_a_line_is_refused_clearly_or_works(drawn):
    check_line(*drawn)


@settings(FEW, max_examples=30)
@given(lines(LATER))
@example(("report", ["protocol=-1"]))  # refused once runs are read
def test_a_line_of_the_other_commands_is_refused_clearly_or_works(drawn):
    check_line(*drawn)


@pytest.mark.slow
@settings(FEW, max_examples=500)
@given(lines(sorted(COMMANDS)))
def test_a_line_is_refused_clearly_or_works_at_length(drawn):
    check_line(*drawn)


@settings(MANY, max_examples=40)
@given(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(lambda text: text.encode(errors="replace"))))
def test_a_preset_of_any_bytes_is_refused_clearly_or_works(content):
    with open("preset.yaml", "wb") as file:
        file.write(content)
    check_line("run", ["preset=preset.yaml"])


@pytest.mark.parametrize(
    "content",
    [
        b"a: &a [*a]",
        b"&a {seed: *a}",
        b"seed: !!python/object/apply:os.system [exit]",
        b"seed: " + b"[" * 3000,
        b"train: {epochs: .nan}",
        b"? [1, 2]\n: 3",
        b"1: 2",
        b"seed: 2026-11-24",
        b'output: "a\\0b"',
        b"methods: [{name: [kd]}]",
        b"<<: {seed: 3}",
    ],
)
def test_a_preset_that_is_hostile_or_odd_is_refused_clearly_or_works(content):
    with open("preset.yaml", "wb") as file:
        file.write(content)
    check_line("run", ["preset=preset.yaml"])
