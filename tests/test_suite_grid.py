"""From a grid's command line to its cohorts."""

from __future__ import annotations

import pytest
import torch

import methods
from benchmarks.cli import compose_config, main
from benchmarks.errors import UserError
from benchmarks.pairs import PAIRS
from benchmarks.suite.command import COMMAND
from benchmarks.suite.grid import GridCohort, cohorts
from benchmarks.suite.named_grids import NAMED_GRIDS
from methods import InvalidSetting

SMALL = "{teacher: resnet8, student: resnet8}"


def grid(*words: str) -> list[GridCohort]:
    return cohorts(*compose_config(COMMAND, words))


def refused(*words: str) -> str:
    with pytest.raises((UserError, InvalidSetting)) as caught:
        grid(*words)
    return str(caught.value)


def test_methods_pairs_and_seeds_make_a_cohort_for_each_pair_and_seed() -> None:
    variants = "methods=[none,kd,{name: kd, label: soft, temperature: 8}]"
    found = grid(variants, f"pairs=[vgg13_vgg8,{SMALL}]", "seeds=[3,1]")
    assert [cohort.name for cohort in found] == [
        "vgg13_vgg8 seed 3",
        "vgg13_vgg8 seed 1",
        "resnet8_resnet8 seed 3",
        "resnet8_resnet8 seed 1",
    ]
    for cohort in found:
        assert [variant.label for variant in cohort.variants] == ["none", "kd", "soft"]
        assert cohort.variants[2].method.temperature == 8
        assert not cohort.impossible
        assert [student.seed for student in cohort.students()] == [cohort.run.seed] * 3


def test_a_run_is_what_the_run_command_makes_of_the_same_settings() -> None:
    from benchmarks import run
    from benchmarks.protocol import resolve

    shared = (
        "data=digits",
        "train.epochs=5",
        "train.lr=0.02",
        "loss.schedule=cosine",
        "teacher.seed=2",
        "output=o",
    )
    (cohort,) = grid("methods=[kd,aftkd]", "pairs=[vgg13_vgg8]", "seeds=[4]", *shared)
    alone = resolve(*compose_config(run.COMMAND, ["methods=[kd,aftkd]", "pair=vgg13_vgg8", "seed=4", *shared]))
    assert (cohort.run, list(cohort.variants)) == alone


@pytest.mark.parametrize(("own", "seeds"), [("true", [3, 1]), ("false", [0, 0])])
def test_each_seed_may_have_a_teacher_of_its_own(own: str, seeds: list[int]) -> None:
    found = grid("methods=[kd]", "pairs=[vgg13_vgg8]", "seeds=[3,1]", f"own_teachers={own}")
    assert [cohort.run.seed for cohort in found] == [3, 1]
    assert [cohort.run.teacher.seed for cohort in found] == seeds


def test_a_pair_may_have_seeds_and_training_of_its_own() -> None:
    other = "{name: vgg13_vgg8, seeds: [7], train: {epochs: 8, max_steps: 2}}"
    small, vgg = grid("methods=[kd]", f"pairs=[{SMALL},{other}]", "train.batch_size=16")
    assert (small.run.seed, small.run.train.epochs, small.run.train.max_steps) == (0, 240, None)
    assert (vgg.run.seed, vgg.run.train.epochs, vgg.run.train.max_steps) == (7, 8, 2)
    assert vgg.run.train.milestones == [5, 6, 7]
    assert vgg.run.teacher.epochs == 8
    assert small.run.train.batch_size == vgg.run.train.batch_size == 16
    small, vgg = grid("methods=[kd]", f"pairs=[{SMALL},{{name: vgg13_vgg8, train: {{schedule: cosine}}}}]")
    assert (small.run.train.schedule, small.run.train.milestones) == ("step", [150, 180, 210])
    assert (vgg.run.train.schedule, vgg.run.train.milestones) == ("cosine", [])


def test_all_stands_for_what_is_not_named() -> None:
    assert [cohort.run.pair.name for cohort in grid("methods=[kd]", "pairs=[all]")] == list(PAIRS)
    (cohort,) = grid("methods=[kd,all]", "pairs=[vgg13_vgg8]")
    labels = [variant.label for variant in cohort.variants]
    assert labels[0] == "kd"
    assert sorted([*labels, *cohort.impossible]) == sorted(methods.available())


def test_a_method_that_cannot_serve_a_pair_is_left_out_there_and_said_why() -> None:
    blocks = "{name: aftkd, label: blocks, block_size: [2,1,1,1]}"
    vgg, resnet = grid(f"methods=[kd,{blocks}]", "pairs=[vgg13_vgg8,resnet56_resnet20]")
    assert [variant.label for variant in vgg.variants] == ["kd", "blocks"]
    assert [variant.label for variant in resnet.variants] == ["kd"]
    assert "block_size" in resnet.impossible["blocks"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["pairs=[vgg13_vgg8]"], ["methods=", "suite="]),
        (["methods=[kd]"], ["pairs=", "suite="]),
        (["methods=[kdd]", "pairs=[vgg13_vgg8]"], ["kdd", "kd"]),
        (["methods=[kd,kd]", "pairs=[vgg13_vgg8]"], ["'kd'", "label"]),
        (["methods=[kd]", "pairs=[vgg13_vgg9]"], ["vgg13_vgg9", "vgg13_vgg8", "all"]),
        (["methods=[kd]", "pairs=[3]"], ["3", "teacher"]),
        (["methods=[kd]", "pairs=[{teacher: vgg13}]"], ["both networks", "vgg13"]),
        (["methods=[kd]", "pairs=[{teacher: vgg13, student: vgg}]"], ["vgg", "vgg8"]),
        (["methods=[kd]", "pairs=[{name: vgg13_vgg8, student: vgg8}]"], ["vgg13_vgg8", "leave the name out"]),
        (["methods=[kd]", "pairs=[{name: vgg13_vgg8, sedes: [1]}]"], ["sedes", "seeds"]),
        (["methods=[kd]", "pairs=[{name: vgg13_vgg8, seeds: 1}]"], ["seeds=1", "list"]),
        (["methods=[kd]", "pairs=[{name: vgg13_vgg8, seeds: []}]"], ["seeds=[]", "list"]),
        (["methods=[kd]", "pairs=[{name: vgg13_vgg8, train: {epoch: 1}}]"], ["epoch", "epochs"]),
        (["methods=[kd]", "pairs=[{name: vgg13_vgg8, train: {epochs: many}}]"], ["many"]),
        (["methods=[kd]", "pairs=[{name: vgg13_vgg8, train: 3}]"], ["train=3"]),
        (["methods=[kd]", "pairs=[{name: vgg13_vgg8, train: {milestones: [[]]}}]"], ["milestones=[[]]", "int"]),
        (["methods=[kd]", "pairs=[vgg13_vgg8,vgg13_vgg8]"], ["vgg13_vgg8 seed 0", "2 times"]),
        (["methods=[kd]", "pairs=[vgg13_vgg8]", "seeds=[1,1]"], ["seed 1", "2 times"]),
        (["methods=[kd,{name: aftkd, degree: 2}]", "pairs=[vgg13_vgg8]"], ["degree=2", "[0, 1]"]),
        (["methods=[kd]", "pairs=[vgg13_vgg8]", "loss.start=0.5"], ["loss.start", "no effect"]),
        (["methods=[kd]", "pairs=[vgg13_vgg8]", "own_teachers=true", "teacher.seed=1"], ["teacher.seed", "own_t"]),
        (
            ["methods=[kd]", "pairs=[vgg13_vgg8]", "own_teachers=true", "teacher.checkpoint=t"],
            ["teacher.checkpoint"],
        ),
        (
            ["methods=[kd]", "pairs=[{name: vgg13_vgg8, train: {schedule: cosine, milestones: [9]}}]"],
            ["train.milestones=[9]", "no effect"],
        ),
    ],
)
def test_grids_that_cannot_be_are_refused(words: list[str], parts: list[str]) -> None:
    message = refused(*words)
    for part in parts:
        assert part in message
    assert len(message.splitlines()) <= 4


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["workers=0"], ["workers=0"]),
        (["address=auto"], ["address=auto", "launcher=ray"]),
        (["gpus=0.5"], ["gpus=0.5", "launcher=ray"]),
        (["launcher=ray", "gpus=1.5"], ["gpus=1.5", "whole"]),
        (["launcher=slurm"], ["launcher", "slurm", "ray"]),
        (["launcher=ray", "retries=-1"], ["retries=-1"]),
        (["launcher=ray", "address=auto", "workers=3"], ["workers=3", "address"]),
        (["suite=smok"], ["smok", "smoke"]),
        (["pair=vgg13_vgg8"], ["pair", "pairs"]),
    ],
)
def test_lines_that_cannot_be_are_refused(words: list[str], parts: list[str], tmp_path, capsys) -> None:
    line = ["methods=[kd]", "pairs=[vgg13_vgg8]", "data=digits", f"output={tmp_path / 'runs'}"]
    assert main(COMMAND, [*line, *words]) == 2
    shown = capsys.readouterr()
    assert all(part in shown.err for part in parts)
    assert "Traceback" not in shown.err
    assert not (tmp_path / "runs").exists()


def test_tasks_without_a_gpu_cannot_train_on_one(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    line = ["methods=[none]", f"pairs=[{SMALL}]", "data=digits", f"output={tmp_path}", "train.precision=fp32"]
    assert main(COMMAND, [*line, "launcher=ray", "gpus=0", "train.device=cuda", "train.compile=false"]) == 2
    assert "gpus=0: tasks train on a GPU" in capsys.readouterr().err


# --- grids that have a name


@pytest.mark.parametrize("name", NAMED_GRIDS)
def test_named_grids_can_be_trained(name: str) -> None:
    for cohort in grid(f"suite={name}", "seeds=[0]"):
        assert cohort.variants
        assert len(cohort.students()) == len(cohort.variants)


def test_crd_table_is_on_every_pair_under_the_full_protocol() -> None:
    found = grid("suite=crd_table", "methods=[kd]")
    assert [cohort.run.pair.name for cohort in found[::5]] == list(PAIRS)
    assert [cohort.run.seed for cohort in found[:5]] == [0, 1, 2, 3, 4]
    assert {(cohort.run.data.name, cohort.run.train.epochs) for cohort in found} == {("cifar100", 240)}


def test_the_ablation_changes_one_thing_at_a_time() -> None:
    cohort, *_ = grid("suite=ablation_aftkd")
    assert not cohort.impossible
    variants = {variant.label: variant for variant in cohort.variants if variant.method.name == "aftkd"}
    default = variants.pop("aftkd")
    changed = set()
    for variant in variants.values():
        ours, theirs = vars(variant.method), vars(default.method)
        differs = [name for name in theirs if name != "label" and ours[name] != theirs[name]]
        differs += ["loss"] * (variant.loss != default.loss)
        assert len(differs) == 1, variant.label
        changed.update(differs)
    assert changed == {"content", "degree", "attention", "block_size", "center", "loss"}


def test_smoke_is_digits_on_two_pairs() -> None:
    found = grid("suite=smoke")
    assert [cohort.name for cohort in found] == [
        "resnet20_resnet8 seed 0",
        "resnet20_resnet8 seed 1",
        "vgg13_vgg8 seed 0",
    ]
    assert {cohort.run.data.name for cohort in found} == {"digits"}
    for cohort in found:
        assert {*(variant.label for variant in cohort.variants), *cohort.impossible} == set(methods.available())


def test_what_is_typed_counts_more_than_the_named_grid() -> None:
    (cohort,) = grid("suite=smoke", "data=cifar100", "methods=[kd]", "pairs=[vgg13_vgg8]", "train.batch_size=8")
    assert cohort.run.data.name == "cifar100"
    assert [variant.label for variant in cohort.variants] == ["kd"]
    assert (cohort.run.train.batch_size, cohort.run.train.epochs) == (8, 2)
