"""The command that a run leaves behind gives the same run again."""

import shlex
import subprocess

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import run
from benchmarks.cli import compose_config
from benchmarks.console import make_console
from benchmarks.distillation import Distillation
from benchmarks.identity import run_id
from benchmarks.overrides import as_overrides, parse, unquoted
from benchmarks.protocol import resolve
from benchmarks.repeat import beyond_usual, repeat
from benchmarks.words import command_line

LINES = [
    ["method=none", "pair=vgg13_vgg8"],
    ["method=aftkd", "pair=vgg13_vgg8", "data=digits", "seed=3", "method.weights.afb=10"],
    ["method=aftkd", "pair=resnet32x4_shufflev1", "method.block_size=[8,4,2]", "loss.windows=12"],
    ["method=kd", "pair=vgg13_vgg8", "loss.schedule=adaptive", "loss.rate=first"],
    ["method=aftkd", "pair=vgg13_vgg8", "loss.schedule=linear", "loss.end=0.5"],
    [
        "method=aftkd",
        "pair=vgg13_vgg8",
        "method.content=attention",
        "method.attention=channel",
        "loss.schedule=linear",
    ],
    ["methods=[{name: kd, label: 'it''s = soft, (x)', temperature: 8}]".replace("''", "\\'"), "pair=vgg13_vgg8"],
    ["methods=[{name: kd, label: 'true'}]", "pair=vgg13_vgg8"],
    [r"methods=[{name: kd, label: '\tau = 8'}]", "pair=vgg13_vgg8"],
    ["method=ttm", "pair=resnet56_resnet20", "method.weighted=true"],
    ["method=ttm", "pair=vgg13_vgg8", "method.weighted=true", "method.weights.ttm=45"],
    ["method=at", "pair=custom", "pair.teacher=resnet110", "pair.student=vgg8", "method.stages=[[1,1],[3,3]]"],
    [
        "method=kd",
        "pair=vgg13_vgg8",
        "train.epochs=7",
        "train.milestones=[2]",
        "train.lr=1e-3",
        "train.max_steps=5",
    ],
    ["method=kd", "pair=vgg13_mobilenetv2", "train.lr=0.05", "train.momentum=0.8", "train.deterministic=true"],
    ["method=kd", "pair=vgg13_vgg8", "train.schedule=cosine"],
    ["method=kd", "pair=vgg13_vgg8", "data.validation=0.1", "train.precision=fp32", "train.threads=1"],
]


def student(words):
    configuration, methods = resolve(*compose_config(run.COMMAND, words))
    distillation = Distillation(configuration, methods, make_console())
    return distillation.students[0], configuration


@pytest.mark.parametrize("words", LINES, ids=lambda words: " ".join(words))
def test_the_command_of_a_run_is_the_run(words, tmp_path):
    first, configuration = student([*words, f"output={tmp_path}"])
    program, dash, module, *again = shlex.split(repeat(first, configuration.teacher))
    assert (program, dash, module) == ("python", "-m", "benchmarks.run")
    second, _ = student([*again, f"output={tmp_path}"])
    assert run_id(second, None) == run_id(first, None)


USUAL = [
    (["method=kd", "pair=vgg13_vgg8", "method.temperature=4", "method.weights.kd=0.9"], {}),
    (["method=kd", "pair=vgg13_vgg8", "method.temperature=8"], {"method": {"temperature": 8.0}}),
    (["method=at", "pair=vgg13_vgg8", "method.stages=[[1,1],[2,2],[3,3],[4,4]]"], {}),
    (["method=at", "pair=vgg13_vgg8", "method.stages=[[1,1]]"], {"method": {"stages": [[1, 1]]}}),
    (["method=aftkd", "pair=resnet32x4_shufflev1", "loss.windows=12"], {"loss": {"windows": 12}}),
    (["methods=[{name: kd, label: plain}]", "pair=vgg13_vgg8"], {}),
    (["method=ttm", "pair=resnet56_resnet20"], {}),
    (["method=ttm", "pair=resnet56_resnet20", "method.weighted=true"], {"method": {"weighted": True}}),
]


@pytest.mark.parametrize(("words", "told"), USUAL)
def test_what_is_beyond_the_usual_is_what_changes_the_run(words, told, tmp_path):
    configuration, methods = resolve(*compose_config(run.COMMAND, [*words, f"output={tmp_path}"]))
    distillation = Distillation(configuration, methods, make_console())
    assert beyond_usual(distillation.students[0], distillation.specs) == told


def test_it_says_what_differs_and_little_else(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    first, configuration = student(["method=kd", "pair=vgg13_vgg8", "method.temperature=8", "train.precision=fp32"])
    assert repeat(first, configuration.teacher) == (
        "python -m benchmarks.run method=kd method.temperature=8.0 pair=vgg13_vgg8 data=cifar100 seed=0 "
        "train.precision=fp32 train.device=cpu train.threads=2"
    )


def test_the_teacher_and_the_attempt_are_part_of_it(tmp_path):
    words = ["method=kd", "pair=vgg13_vgg8", "teacher.epochs=12", "teacher.seed=4", f"output={tmp_path}"]
    first, configuration = student(words)
    assert repeat(first, configuration.teacher, attempt=1).endswith("teacher.epochs=12 teacher.seed=4 rerun=true")
    assert "teacher" not in repeat(first, None)


@given(st.text(r"\'a ", min_size=1))
def test_a_value_is_read_as_it_was_written(value):
    (word,) = as_overrides({"key": value})
    assert unquoted(parse([word])[0].value()) == value


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_a_command_line_is_read_as_its_words(words):
    assert shlex.split(command_line(words)) == words


def test_the_shell_reads_a_command_line_as_its_words():
    words = ["a b", "method.label='a b'", "it's $HOME", 'a "b\'s"', "`ls`'", "\\'", "'\\", "!'", "", "a\n'b"]
    said = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {command_line(words)}"], capture_output=True, text=True, check=True
    )
    assert said.stdout.split("\0")[:-1] == words


def test_single_quotes_in_a_command_line_stay_readable():
    assert command_line(["method.label='a b'", "pairs=[a,b]"]) == "\"method.label='a b'\" 'pairs=[a,b]'"
