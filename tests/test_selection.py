"""Which runs share a cell, and which are left out."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logged import grid, logged, logs_of
from wandb_logs import TREES

from analysis.configs import PROTOCOL, SGD, printable, protocol
from analysis.runs import LoggedRun, frame_of_runs
from analysis.selection import choose, select
from benchmarks import later
from benchmarks.config import DataConfig, Optimizer, TrainConfig
from benchmarks.errors import UserError
from benchmarks.variants import StudentConfig


def cells(runs, **kwargs):
    """{(column, row): {seed: value}} of a selection."""
    found = select(logs_of(runs).runs, **kwargs).cells
    groups = found.groupby(["column", "row"])
    return {key: dict(zip(group["seed"], group["value"], strict=True)) for key, group in groups}


def excluded(runs, **kwargs):
    return dict(select(logs_of(runs).runs, **kwargs).excluded.itertuples(index=False))


def test_runs_that_differ_in_the_seed_alone_share_a_cell():
    runs = [logged(seed=seed, top1=70 + seed) for seed in (2, 0, 1)]
    assert cells(runs) == {("vgg13_vgg8", "kd"): {0: 70, 1: 71, 2: 72}}
    assert not excluded(runs)


@pytest.mark.parametrize(
    "train",
    [{"epochs": 3}, {"batch_size": 32}, {"max_steps": 5}, {"precision": "bf16"}, {"milestones": [1]}, {"new": 1}],
)
def test_another_protocol_never_shares_a_cell(train):
    runs = [logged(seed=0), logged(seed=1, train=train)]
    assert select(logs_of(runs).runs).cells["protocol"].nunique() == 2


def test_a_setting_that_came_later_counts_where_it_differs_from_what_older_logs_lack(monkeypatch):
    monkeypatch.setattr(later, "LATER", {"train": {"new": "as ever"}, "method": {"extra": 1.0}})
    older = [logged(seed=0)]
    newer = [logged(seed=1, train={"new": "as ever"}, settings={"extra": 1.0})]
    assert cells([*older, *newer])[("vgg13_vgg8", "kd")] == {0: 70, 1: 70}
    protocols = select(logs_of([*older, *newer, logged(seed=2, train={"new": "other"})]).runs).cells["protocol"]
    assert sorted(protocols.value_counts()) == [1, 2]
    assert {row for _, row in cells([*older, *newer, logged(seed=2, settings={"extra": 2.0})])} == {
        "kd (extra=–)",
        "kd (extra=2.0)",
    }


def test_steps_are_one_protocol_with_older_logs_and_another_schedule_is_another_and_says_so():
    of_steps = {"milestones": [1], "decay": 0.1}
    runs = [
        logged(seed=0, train=of_steps),
        logged(seed=1, train=of_steps | {"schedule": "step"}),
        logged(seed=2, train=of_steps | {"schedule": "cosine"}),
        logged(seed=3, train=of_steps | {"schedule": "cosine", "milestones": []}),
    ]
    found = select(logs_of(runs).runs).cells.set_index("seed")["protocol"]
    assert found[0] == found[1]
    assert found.nunique() == 3
    assert ["cosine lr" in found[seed] for seed in range(4)] == [False, False, True, True]


@pytest.mark.parametrize("train", [{"device": "cuda"}, {"threads": 8}, {"deterministic": True}])
def test_the_machine_is_no_part_of_the_protocol(train):
    assert cells([logged(seed=0), logged(seed=1, train=train)])[("vgg13_vgg8", "kd")] == {0: 70, 1: 70}


def test_validation_split_is_another_protocol_and_says_so():
    runs = [logged(seed=0), logged(seed=1, validation=0.1)]
    first, second = sorted(select(logs_of(runs).runs).cells["protocol"].unique())
    assert "test" in first
    assert "val" in second


def test_protocol_is_chosen_by_a_part_of_its_name():
    runs = [logged(seed=0), logged(seed=1, epochs=3, id="other")]
    assert cells(runs, protocol="2 epochs") == {("vgg13_vgg8", "kd"): {0: 70}}
    assert excluded(runs, protocol="2 epochs")["other"].startswith("another protocol: cifar100 test 3 epochs")
    with pytest.raises(UserError, match="several protocols"):
        select(logs_of(runs).runs, protocol="epochs")
    with pytest.raises(UserError, match="no protocol"):
        select(logs_of(runs).runs, protocol="imagenet")


def test_where_no_run_is_complete_that_is_the_reason_and_not_the_protocols_name():
    runs = [logged(status="failed", id="a")]
    assert excluded(runs, protocol="2 epochs") == {"a": "failed"}


def test_a_protocol_that_is_part_of_anothers_name_can_be_chosen():
    assert choose("a 1", ["a 1", "a 12"]) == "a 1"


def test_settings_behind_one_label_become_rows_that_name_them():
    runs = [
        logged(settings={"temperature": t, "weights": {"ce": 1.0, "kd": w}}, id=f"{t} {w}")
        for t, w in ((4.0, 1.0), (8.0, 1.0), (4.0, 0.5))
    ]
    assert {row for _, row in cells(runs)} == {
        "kd (temperature=4.0, weights.kd=1.0)",
        "kd (temperature=8.0, weights.kd=1.0)",
        "kd (temperature=4.0, weights.kd=0.5)",
    }


@pytest.mark.parametrize("pair", ["vgg13_vgg8", "wrn40_2_wrn16_2"])
def test_methods_behind_one_label_are_rows_of_their_own(pair):
    """Be their settings the same, and on whatever pairs they were run."""
    runs = [logged("kd", label="ours"), logged("at", pair, seed=1, label="ours"), logged("kd", seed=2)]
    for run in runs:  # of each method one version
        run.config["code"]["method_sources"] = run.config["method"]["name"] * 3
    assert sorted(select(logs_of(runs).runs).cells["row"]) == ["kd", "ours (method=at)", "ours (method=kd)"]


def test_a_method_as_it_is_usual_keeps_its_name_beside_another_that_has_it_for_a_label():
    runs = [logged("kd"), logged("at", seed=1, label="kd")]
    runs[0].config["unusual"] = []
    assert sorted(select(logs_of(runs).runs).cells["row"]) == ["kd", "kd (method=at)"]


def test_settings_that_the_networks_decide_do_not_split_a_row():
    runs = [
        logged("aftkd", "vgg13_vgg8", settings={"block_size": [4, 2]}),
        logged("aftkd", "wrn40_2_wrn16_2", settings={"block_size": [8, 4]}),
    ]
    assert {row for _, row in cells(runs)} == {"aftkd"}


def test_loss_schedule_is_a_setting():
    other = logged(seed=0, id="other")
    other.config["loss"] = {"schedule": "cosine"}
    assert {row for _, row in cells([logged(), other])} == {"kd (loss.schedule=fixed)", "kd (loss.schedule=cosine)"}


def test_an_optimizer_of_distillation_is_a_setting_beside_the_student_alone():
    dot, wider = {"optimizer": "dot", "delta": 0.075}, {"optimizer": "dot", "delta": 0.05}
    sgd = {"optimizer": "sgd", "delta": 0.075}  # which has no delta
    runs = [logged("none", train=sgd), logged(seed=1), logged("kd", train=sgd), logged("kd", train=dot, id="dot")]
    assert {row for _, row in cells(runs)} == {"none", "kd", "kd (train.optimizer=dot)"}
    assert select(logs_of(runs).runs).cells["protocol"].nunique() == 1
    assert cells(runs)["vgg13_vgg8", "kd"].keys() == {0, 1}
    several = {row for _, row in cells([*runs, logged("kd", train=wider, id="wider")])}
    assert several == {"none", "kd"} | {
        f"kd (train.delta={delta}, train.optimizer=dot)" for delta in ("0.075", "0.05")
    }


def test_another_optimizer_is_named_even_where_nothing_differs_from_it():
    runs = [logged("kd", train={"optimizer": "dot"}), logged("kd", "wrn40_2_wrn16_2")]
    assert set(cells(runs)) == {("vgg13_vgg8", "kd (train.optimizer=dot)"), ("wrn40_2_wrn16_2", "kd")}


def test_labels_are_rows():
    runs = [logged("aftkd", label="features only", settings={"content": "features"}), logged("aftkd")]
    assert {row for _, row in cells(runs)} == {"aftkd", "features only"}


def under_its_own_teacher(number, **told):
    told = {"seed": number, "epochs": 240, "checkpoint": None} | told
    taught = logged(seed=number, teacher=str(number) * 64, taught_by=told, top1=70 + number)
    return [taught, logged("none", seed=number)]


@pytest.mark.parametrize("ahead", [0, 10])
def test_where_each_seed_has_a_teacher_of_its_own_they_share_a_column(ahead):
    runs = [run for seed in range(3) for run in under_its_own_teacher(seed, seed=seed + ahead)]
    assert cells(runs) == {
        ("vgg13_vgg8", "kd"): {0: 70, 1: 71, 2: 72},
        ("vgg13_vgg8", "none"): {0: 70, 1: 70, 2: 70},
    }


@pytest.mark.parametrize(
    "other",
    [
        under_its_own_teacher(1, seed=0),
        under_its_own_teacher(1, checkpoint="vgg13.pth"),
        under_its_own_teacher(1, epochs=3),
        [*under_its_own_teacher(1), logged("at", seed=1, teacher="0" * 64, taught_by={"seed": 0, "epochs": 240})],
        [*under_its_own_teacher(1), logged("at", seed=1, teacher="4" * 64, taught_by={"seed": 1, "epochs": 240})],
        [logged(seed=1, teacher="1" * 64)],
    ],
    ids=["of one seed", "given", "of other epochs", "one for two seeds", "two for one seed", "of older logs"],
)
def test_teachers_that_differ_otherwise_than_the_seeds_are_columns(other):
    columns = {column for column, _ in cells([*under_its_own_teacher(0), *other])}
    assert len(columns) > 1
    assert all(" teacher " in column for column in columns)


def test_teachers_of_one_pair_are_columns_and_share_the_student_alone():
    runs = [logged(teacher="1" * 64, top1=71), logged(teacher="2" * 64, top1=72, id="b"), logged("none", top1=69)]
    assert cells(runs) == {
        ("vgg13_vgg8 teacher 111111", "kd"): {0: 71},
        ("vgg13_vgg8 teacher 111111", "none"): {0: 69},
        ("vgg13_vgg8 teacher 222222", "kd"): {0: 72},
        ("vgg13_vgg8 teacher 222222", "none"): {0: 69},
    }


def test_learning_rates_of_one_pair_are_columns():
    runs = [
        logged(top1=71),
        logged(top1=72, train={"lr": 0.1}, id="b"),
        logged("none", top1=69),
        logged(pair="vgg13_mobilenetv2", train={"lr": 0.01}, top1=65),
    ]
    assert cells(runs) == {
        ("vgg13_mobilenetv2", "kd"): {0: 65},
        ("vgg13_vgg8 lr 0.05", "kd"): {0: 71},
        ("vgg13_vgg8 lr 0.05", "none"): {0: 69},
        ("vgg13_vgg8 lr 0.1", "kd"): {0: 72},
    }


def test_the_latest_attempt_of_a_seed_counts():
    runs = [logged(attempt=1, top1=71, created=1.0), logged(attempt=0, top1=70, created=2.0)]
    assert cells(runs) == {("vgg13_vgg8", "kd"): {0: 71}}
    (reason,) = excluded(runs).values()
    assert reason == "seed 0 was run again: kd-vgg13_vgg8-0-1 is the latest"


def test_of_equal_attempts_the_one_begun_last_counts():
    runs = [logged(id="old", created=1.0), logged(id="new", top1=71, created=2.0, train={"threads": 1})]
    assert cells(runs) == {("vgg13_vgg8", "kd"): {0: 71}}
    assert set(excluded(runs)) == {"old"}


def test_only_complete_runs_count_and_the_others_are_listed_with_their_failure():
    failed = logged(seed=1, status="failed")
    failed.summary["failure"] = "the loss is not finite"
    ended = [logged(seed=3, status="interrupted"), logged(seed=4, status="stopped")]
    runs = [logged(), failed, logged(seed=2, status=None), *ended]
    assert cells(runs) == {("vgg13_vgg8", "kd"): {0: 70}}
    reasons = ["failed: the loss is not finite", "interrupted", "stopped", "unfinished"]
    assert sorted(excluded(runs).values()) == reasons


def test_an_attempt_that_failed_does_not_displace_one_that_did_not():
    assert cells([logged(), logged(attempt=1, status="failed")]) == {("vgg13_vgg8", "kd"): {0: 70}}


def test_foreign_runs_are_listed():
    foreign = logged(id="foreign")
    foreign.config = {"lr": 0.1}
    assert excluded([logged(), foreign])["foreign"].startswith("no run of this suite")


PARTS = ("method", "label", "pair", "data", "seed", "train", "loss", "teacher", "attempt", "code", "environment")


@given(
    st.dictionaries(st.sampled_from(PARTS), TREES),
    st.dictionaries(st.sampled_from(["status", "test/top1_last"]), TREES),
)
def test_runs_of_other_programs_do_no_harm(config, summary):
    runs = frame_of_runs([LoggedRun("foreign", config=config, summary=summary), logged()])
    selection = select(runs)
    assert selection.cells["run_id"].tolist() == ["kd-vgg13_vgg8-0-0"]
    assert selection.excluded["run_id"].tolist() == ["foreign"]


@pytest.mark.parametrize("seed", [0.5, float("inf"), float("nan"), 2**70, -(2**70), "first", [1], None])
@pytest.mark.parametrize("other", [1, 2**60 + 1])
def test_a_seed_that_is_no_whole_number_is_of_another_program(seed, other):
    foreign = logged(seed=seed, id="foreign")
    foreign.config["train"]["epochs"] = 0.5
    selection = select(frame_of_runs([foreign, logged(seed=other)]))
    assert selection.cells["seed"].tolist() == [other]
    assert selection.excluded["run_id"].tolist() == ["foreign"]


def test_runs_without_accuracy_are_listed():
    empty = logged(seed=1, id="empty")
    del empty.summary["test/top1_last"]
    assert excluded([logged(), empty]) == {"empty": "no top1_last in its summary"}


def test_best_epoch_on_request():
    assert cells([logged(top1=70, best=70.7)], epoch="best") == {("vgg13_vgg8", "kd"): {0: 70.7}}


def test_methods_and_pairs_are_chosen_by_name_or_label():
    runs = [*grid({("kd", "vgg13_vgg8"): [70], ("at", "wrn40_2_wrn16_2"): [71]}), logged("kd", label="soft")]
    assert {row for _, row in cells(runs, methods=["kd"])} == {"kd", "soft"}
    assert set(cells(runs, methods=["soft", "at"])) == {("vgg13_vgg8", "soft"), ("wrn40_2_wrn16_2", "at")}
    assert set(cells(runs, pairs=["wrn40_2_wrn16_2"])) == {("wrn40_2_wrn16_2", "at")}
    with pytest.raises(UserError, match=r"(?s)unknown method.*'dk'.*closest: kd"):
        select(logs_of(runs).runs, methods=["dk"])
    with pytest.raises(UserError, match="unknown pair"):
        select(logs_of(runs).runs, pairs=["vgg8_vgg13"])


def test_without_variants_a_label_is_shown_only_if_it_is_named():
    runs = [*grid({("kd", "vgg13_vgg8"): [70], ("at", "vgg13_vgg8"): [71]}), logged("kd", label="soft")]
    runs.append(logged("kd", settings={"temperature": 8.0}, seed=1, id="hot"))  # of no label: a row of its own
    own = {row for _, row in cells(runs, variants=False)}
    assert own == {row for _, row in cells(runs)} - {"soft"}
    assert len(own) == 3  # which of both is the usual one is not known
    assert {row for _, row in cells(runs, methods=["kd"], variants=False)} == own - {"at"}
    assert {row for _, row in cells(runs, methods=["at", "soft"], variants=False)} == {"at", "soft"}
    foreign = logged(id="foreign")
    foreign.config = {"lr": 0.1}
    assert list(excluded([*runs, foreign], variants=False)) == ["foreign"]


def temperatures(*values, usual=4.0):
    """Runs of kd that log what they were told beyond the usual."""
    runs = [logged(settings={"temperature": value}, top1=70 + value, id=f"{value}") for value in values]
    for run in runs:
        value = run.config["method"]["temperature"]
        run.config["unusual"] = [] if value == usual else [f"method.temperature={value}"]
    return runs


def test_a_method_as_it_is_usual_keeps_its_name_beside_other_settings():
    runs = [*temperatures(4.0, 8.0), logged("at", top1=60)]
    hot = "kd (temperature=8.0)"
    assert {row: values for (_, row), values in cells(runs).items()} == {"kd": {0: 74}, hot: {0: 78}, "at": {0: 60}}
    assert {row for _, row in cells(runs, variants=False)} == {"kd", "at"}
    assert {row for _, row in cells(runs, methods=["kd"], variants=False)} == {"kd"}
    assert {row for _, row in cells(runs, methods=[hot, "at"], variants=False)} == {hot, "at"}
    assert {row for _, row in cells(runs, methods=["kd"])} == {"kd", hot}


def test_what_was_usual_at_another_time_is_no_more_so():
    earlier, later = temperatures(3.0, usual=3.0), temperatures(4.0)
    assert {row for _, row in cells([*earlier, *later])} == {"kd (temperature=3.0)", "kd (temperature=4.0)"}


def test_a_row_of_several_under_a_label_is_chosen_by_its_name():
    runs = [
        *(
            logged(settings={"temperature": temperature}, top1=70 + temperature, id=f"{temperature}")
            for temperature in (2.0, 4.0)
        ),
        logged("at", top1=60),
        logged("crd", status="failed"),
    ]
    every = {row for _, row in cells(runs)}
    warm = next(row for row in every if row.startswith("kd (") and "4" in row)
    assert cells(runs, methods=[warm]) == {("vgg13_vgg8", warm): {0: 74}}
    assert {row for _, row in cells(runs, methods=[warm, "at", "crd"])} == {warm, "at"}
    assert {row for _, row in cells(runs, methods=[warm, "kd"])} == every - {"at"}
    for name in ("kd (temperature=3.0)", "at (p=1)", "k (temperature=4.0)"):
        with pytest.raises(UserError, match=r"unknown (row|method) in these logs"):
            select(logs_of(runs).runs, methods=[name])


def test_of_no_runs_nothing_is_selected():
    selection = select(logs_of([]).runs)
    assert selection.cells.empty
    assert selection.excluded.empty


def test_every_part_of_a_configuration_is_protocol_or_tells_runs_apart():
    """A new part of it must be put into one of the two."""
    parts = {field.name for field in dataclasses.fields(StudentConfig)}
    assert parts == {"method", "pair", "seed", "loss"} | PROTOCOL.keys()
    assert PROTOCOL["train"] <= {field.name for field in dataclasses.fields(TrainConfig)}
    assert TrainConfig.optimizer == Optimizer(SGD)
    assert PROTOCOL["data"] <= {field.name for field in dataclasses.fields(DataConfig)}


@pytest.mark.parametrize(
    ("epochs", "steps", "said"),
    [(1, None, "test 1 epoch fp32"), (2, None, "2 epochs fp32"), (1, 1, "1 epoch of 1 step"), (3, 5, "of 5 steps")],
)
def test_protocol_counts_as_people_do(epochs, steps, said):
    assert said in protocol(logged(epochs=epochs, train={"max_steps": steps}).config)


def test_protocol_text_is_independent_of_the_order_of_keys():
    config = logged().config
    assert protocol(config) == protocol(dict(reversed(config.items())))
    assert protocol({}) == protocol({})


def test_names_are_printable():
    assert printable("a\x1b[31mb\nc\u202e") == "a [31mb c "
    assert np.all([printable(name) == name for name in ("kd (T=4)", "ü–±", "a|b")])
