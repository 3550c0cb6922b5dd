"""`benchmarks.teacher`: train, import, list."""

from __future__ import annotations

import json
import re

import pytest
import torch
from commands import few_digits, interrupted_at
from lines import run_of

from benchmarks import models, teacher, teachers, workbench
from benchmarks.cli import main
from benchmarks.results import locked

SHORT = ("data=digits", "train.epochs=1", "train.max_steps=2", "train.batch_size=16", "train.threads=1")


@pytest.fixture
def command(tmp_path):
    """Runs the command with its store in `tmp_path`."""
    with few_digits():
        yield lambda *words: main(teacher.COMMAND, [*words, f"output={tmp_path / 'runs'}"])


def cards(tmp_path):
    return [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/teachers/*/*/card.json"))]


@pytest.fixture
def published(tmp_path):
    """A checkpoint in RepDistiller's form, of an untrained network."""
    torch.manual_seed(3)
    path = tmp_path / "ckpt_epoch_240.pth"
    torch.save({"epoch": 240, "model": models.create("resnet8", 10).state_dict()}, path)
    return path


def test_trains_and_stores_a_teacher_once(command, tmp_path, capsys):
    assert command("network=resnet8", *SHORT) == 0
    (card,) = cards(tmp_path)
    assert (card["network"], card["source"], card["protocol"]["epochs"]) == ("resnet8", "trained here", 1)
    assert len(card["history"]) == 1
    assert not list(tmp_path.glob("runs/teachers/*/*/checkpoint-*"))
    (path,) = tmp_path.glob("runs/teachers/*/*/card.json")
    left = path.with_name("checkpoint-00000002.pt")
    left.write_bytes(b"left")  # by a kill
    capsys.readouterr()
    assert command("network=resnet8", *SHORT) == 0
    assert "in the store already" in capsys.readouterr().out
    assert cards(tmp_path) == [card]
    assert not left.exists()


def test_takes_the_teacher_of_a_pair(command, tmp_path):
    words = ["pair=custom", "pair.teacher=resnet8", "pair.student=resnet14"]
    assert command(*words, *SHORT) == 0
    assert [card["network"] for card in cards(tmp_path)] == ["resnet8"]


def test_imports_a_published_checkpoint_for_runs_to_find(command, published, tmp_path):
    assert command("network=resnet8", "data=digits", f"checkpoint={published}") == 0
    (card,) = cards(tmp_path)
    assert str(published) in card["source"]
    assert (card["protocol"]["epochs"], card["split"]) == (3, "test")

    run = run_of("pair=custom", "pair.teacher=resnet8", "pair.student=resnet14", "data=digits")
    place = teachers.TeacherPlan.of(run).folder
    assert (tmp_path / "runs" / place.relative_to("runs") / "card.json").is_file()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["train.epochs=6"],
        ["train.epochs=1", "train.max_steps=2", "seed=3"],
        ["data.validation=0.2"],
        ["train.threads=1"],
        ["train.lr=0.3"],
        ["train.epochs=6", "train.milestones=[1]"],
        ["train.schedule=cosine"],
    ],
    ids=" ".join,
)
def test_says_by_which_settings_runs_take_it(words, command, published, tmp_path, capsys):
    """Whatever a note says, and where there is none, runs find it."""
    assert command("network=resnet8", "data=digits", f"checkpoint={published}", *words) == 0
    shown = capsys.readouterr().out
    (note,) = re.findall(r"^note: runs take this teacher with (.*)$", shown, flags=re.M) or [""]
    base = ["pair=custom", "pair.teacher=resnet8", "pair.student=resnet14", "data=digits"]
    found = teachers.of_run(run_of(*base, *note.split(), f"output={tmp_path / 'runs'}"))
    assert found is not None
    assert found.sha256 == cards(tmp_path)[0]["sha256"]
    capsys.readouterr()
    assert command("network=resnet8", "data=digits", f"checkpoint={published}", *words) == 0
    assert note in capsys.readouterr().out  # again, when it is there


def test_another_teacher_needs_replace(command, published, tmp_path, capsys):
    assert command("network=resnet8", "data=digits", f"checkpoint={published}") == 0
    torch.manual_seed(4)
    torch.save(models.create("resnet8", 10).state_dict(), tmp_path / "other.pth")
    words = ["network=resnet8", "data=digits", f"checkpoint={tmp_path / 'other.pth'}"]
    before = cards(tmp_path)
    assert command(*words) == 2
    assert "replace=true" in capsys.readouterr().err
    assert cards(tmp_path) == before
    assert command(*words, "replace=true") == 0
    assert cards(tmp_path)[0]["sha256"] != before[0]["sha256"]


def test_who_replaces_a_teacher_trains_it_from_its_first_step(command, published, tmp_path, capsys):
    """Whatever a training before left: the code may be another one by now."""
    with interrupted_at(1):
        assert command("network=resnet8", *SHORT) == 143
    assert command("network=resnet8", *SHORT, f"checkpoint={published}") == 0
    assert len(list(tmp_path.rglob("checkpoint-*"))) == 1
    capsys.readouterr()
    assert command("network=resnet8", *SHORT, "replace=true") == 0
    assert "continued" not in capsys.readouterr().out
    assert cards(tmp_path)[0]["source"] == "trained here"


def test_one_to_be_replaced_that_another_process_has_replaced_by_now_stays(
    command, published, tmp_path, capsys, monkeypatch
):
    words = ("network=resnet8", *SHORT, f"teacher.root={tmp_path / 'store'}")
    assert command(*words, "replace=true") == 0
    (card,) = tmp_path.rglob("card.json")
    newer = {path: path.read_bytes() for path in (card, card.with_name("teacher.safetensors"))}
    assert command(*words, f"checkpoint={published}", "replace=true") == 0

    def ending(folder, wait=False):
        if wait:
            for path, content in newer.items():
                path.write_bytes(content)
            other.__exit__(None, None, None)
        return locked(folder, wait)

    monkeypatch.setattr(workbench, "locked", ending)
    with locked(card.parent) as other:
        assert command(*words, "replace=true") == 0
    assert "epoch 1/1" not in capsys.readouterr().out.partition("waiting for its end")[2]
    assert card.read_bytes() == newer[card]


def test_a_teacher_that_another_process_trains_is_waited_for_and_not_overwritten(
    command, published, tmp_path, capsys, monkeypatch
):
    words = ("network=resnet8", "data=digits", "teacher.root=" + str(tmp_path / "store"), f"checkpoint={published}")
    assert command(*words) == 0
    (card,) = tmp_path.rglob("card.json")
    before = card.read_bytes()
    card.unlink()
    capsys.readouterr()

    def ending(folder, wait=False):
        if wait:
            card.write_bytes(before)
            other.__exit__(None, None, None)
        return locked(folder, wait)

    monkeypatch.setattr(workbench, "locked", ending)
    torch.save(models.create("resnet8", 10).state_dict(), published)
    with locked(card.parent) as other:
        assert command(*words) == 2
    shown = capsys.readouterr()
    assert f"another process is training the teacher in {card.parent}: waiting" in shown.out
    assert "replace=true" in shown.err
    assert card.read_bytes() == before


def test_lists_the_store(command, published, tmp_path, capsys):
    assert command("list") == 0
    assert ": 0\n" in capsys.readouterr().out
    assert command("network=resnet8", "data=digits", f"checkpoint={published}") == 0
    capsys.readouterr()
    assert command("list") == 0
    shown = capsys.readouterr().out
    assert re.search(r"^teachers in .*: 1$", shown, flags=re.M)
    assert "resnet8" in shown
    other = tmp_path / "runs" / "teachers" / "resnet8" / "other" / "card.json"
    other.parent.mkdir()
    other.write_text("{}")
    assert command("list") == 0
    assert capsys.readouterr().out.endswith(shown)


def test_what_a_list_does_not_go_by_is_refused(command, capsys):
    assert command("list", "network=resnet8") == 2
    assert "network= has no effect on list, which goes by teacher.root= and output=" in capsys.readouterr().err


def test_what_else_it_does_has_its_help(command, capsys):
    assert command("list", "help") == 0
    assert "Settings:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "network="),
        (["network=resnet8", "pair=vgg13_vgg8"], "not both"),
        (["network=vgg9"], "vgg8"),
        (["pair=custom"], "pair.teacher: name a network"),
        (["pair=custom", "pair.teacher=resnet8"], "pair.student: name a network"),
        (["pair=vgg13_vgg8", "pair.teacher=resnet8"], "pair=custom pair.teacher=resnet8"),
        (["network=resnet8", "checkpoint=/nowhere.pth"], "checkpoint: /nowhere.pth"),
        (["network=resnet8", "train.epochs=0"], "train.epochs=0"),
        (["network=resnet8", "train.lr=abc"], "train.lr=abc"),
    ],
)
def test_wrong_lines_are_refused(command, tmp_path, capsys, words, expected):
    assert command(*words, "data=digits") == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_refuses_another_architecture_and_number_of_classes(command, published, tmp_path, capsys):
    assert command("network=vgg8", "data=digits", f"checkpoint={published}") == 2
    assert "not a vgg8" in capsys.readouterr().err
    assert command("network=resnet8", "data=cifar100", f"checkpoint={published}") == 2
    assert "10 classes" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_store_that_cannot_be_written_is_named_by_its_setting(command, published, tmp_path, capsys):
    (tmp_path / "file").touch()
    root = f"teacher.root={tmp_path}/file"
    assert command("network=resnet8", "data=digits", f"checkpoint={published}", root) == 2
    assert f"error: {root}" in capsys.readouterr().err
