"""`benchmarks.run` end to end, in this process, on a configuration of seconds."""

import dataclasses
import gc
import inspect
import json
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from commands import (
    PAIR,
    InjectedConfig,
    files,
    injected,
    interrupted_at,
    poison_test_images,
    result,
    run_folder,
    run_folders,
    same,
    weights,
    without_times,
)
from rich.cells import cell_len
from small_cifar100 import Copy
from torch import nn

import methods
from benchmarks import data, published
from benchmarks.config import plain
from benchmarks.costs import cost
from benchmarks.data import Split, digits
from benchmarks.data.dataset import Part
from benchmarks.models import Network
from benchmarks.models.network import _NETWORKS, NetworkEntry
from benchmarks.models.resnet import NARROW, ResNet
from benchmarks.stored import load_student
from benchmarks.training.build import feature_spec
from benchmarks.workbench import Workbench
from methods import Method

ALL = ("none", "kd", "fitnet", "at", "crd", "aftkd")


@pytest.mark.parametrize("name", ALL)
def test_a_method_alone_leaves_a_whole_result_and_nothing_else(name, distil, output, capsys, no_training):
    assert distil(f"method={name}") == 0
    folder = run_folder(output, name)
    assert files(folder) - {".lock"} == {"result.json", "student.safetensors", "code.json"}
    assert files(output) == {f"{PAIR}/{name}/{folder.name}/{file}" for file in files(folder)} | {"images.json"}

    content = json.loads((folder / "result.json").read_text())
    history, summary = content["history"], content["summary"]
    assert [row["epoch"] for row in history] == [1, 2]
    assert content["config"]["id"] == folder.name
    assert summary["test/top1_last"] == history[-1]["test/top1"]
    assert summary["test/top1_best"] == max(row["test/top1"] for row in history)
    assert ("teacher/top1" in summary) == (name != "none")
    terms = methods.configure(name).terms
    assert {key for key in history[0] if key.startswith("train/loss/")} == {f"train/loss/{term}" for term in terms}
    assert f"{summary['test/top1_last']:.2f}" in capsys.readouterr().out

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    no_training()
    assert distil(f"method={name}") == 0
    shown = capsys.readouterr()
    assert "complete already" in shown.out
    assert f"{summary['test/top1_last']:.2f}" in shown.out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_data_set_may_have_larger_images(distil, output, tmp_path, monkeypatch):
    def load(root: Path, cache: Path, part: Part) -> Split:
        split = digits.load(part)
        return Split(split.images.repeat_interleave(2, 2).repeat_interleave(2, 3), split.targets)

    twice = dataclasses.replace(digits.INFO, side=2 * digits.SIDE, load=load)
    monkeypatch.setitem(data.INFO, "twice", twice)
    short = ("train.epochs=1", "train.milestones=[]", "train.max_steps=1")
    assert distil("methods=[kd,aftkd,simkd]", "data=twice", *short, f"teacher.root={tmp_path / 'store'}") == 0
    for name in ("kd", "aftkd", "simkd"):
        shown = load_student(run_folder(output, name))(torch.zeros(2, 3, 64, 64))
        assert shown.shape == (2, 10)
    content = result(output, "kd")["config"]
    assert content["costs"]["student"] == plain(cost("resnet8", twice))
    # All but the classifier's grow with the number of pixels.
    assert cost("resnet8", twice).macs - 640 == 4 * (cost("resnet8", digits.INFO).macs - 640)


def test_rerun_is_another_attempt_with_the_same_numbers(distil, output):
    assert distil("method=crd") == 0
    assert distil("method=crd", "rerun=true") == 0
    first, second = (json.loads((f / "result.json").read_text()) for f in run_folders(output, "crd"))
    assert first["config"]["id"] != second["config"]["id"]
    assert [first["config"]["attempt"], second["config"]["attempt"]] == [0, 1]
    assert without_times(first["history"]) == without_times(second["history"])
    assert first["summary"] == second["summary"]
    assert distil("method=crd", "rerun=true") == 0
    assert len(run_folders(output, "crd")) == 3


def test_seeds_differ(distil, output):
    assert distil("method=none") == 0
    assert distil("method=none", "seed=1") == 0
    first, second = (json.loads((f / "result.json").read_text()) for f in run_folders(output, "none"))
    assert without_times(first["history"]) != without_times(second["history"])


def test_a_cohort_gives_what_each_method_gives_alone_in_any_order(distil, tmp_path):
    chosen = ("none", "kd", "crd", "aftkd")
    for name in chosen:
        assert distil(f"method={name}", f"output={tmp_path}/alone") == 0
    assert distil(f"methods=[{','.join(chosen)}]", f"output={tmp_path}/cohort") == 0
    assert distil(f"methods=[{','.join(reversed(chosen))},fitnet]", f"output={tmp_path}/reversed") == 0
    for name in chosen:
        alone = weights(tmp_path / "alone", name)
        history = without_times(result(tmp_path / "alone", name)["history"])
        for other in ("cohort", "reversed"):
            assert same(weights(tmp_path / other, name), alone)
            assert without_times(result(tmp_path / other, name)["history"]) == history
    assert not same(weights(tmp_path / "alone", "kd"), weights(tmp_path / "alone", "none"))


def test_a_cohort_trains_only_what_is_not_complete(distil, output, monkeypatch, capsys):
    assert distil("method=kd") == 0
    before = (run_folder(output, "kd") / "result.json").read_bytes()
    tried = []
    rehearse = Workbench.rehearse
    monkeypatch.setattr(
        Workbench,
        "rehearse",
        lambda self, what, students, specs: (
            tried.append([s.label for s in students]),
            rehearse(self, what, students, specs),
        ),
    )
    assert distil("methods=[kd,none]") == 0
    assert tried == [["none"]]  # the time that is told is the others'
    assert "complete already: kd (rerun=true" in capsys.readouterr().out
    assert (run_folder(output, "kd") / "result.json").read_bytes() == before
    assert (run_folder(output, "none") / "result.json").is_file()


@pytest.mark.parametrize(("form", "shown"), [("kernel", False), ("adjacent", True)])
def test_a_published_figure_stands_beside_its_own_form_of_a_method(
    distil, output, capsys, monkeypatch, form, shown
):
    settings = "form=adjacent weights.cc=0.02"
    figure = published.Published("digits", "resnet8", "resnet8", "cc", settings, 71.23, "a paper")
    monkeypatch.setattr(published, "find", lambda *_: figure)
    assert distil("method=cc", f"method.form={form}", "method.weights.cc=0.02") == 0
    said = capsys.readouterr().out
    (row,) = [line for line in said.splitlines() if line.startswith(" cc ")]
    assert ("71.23" in row) == shown
    assert "best epoch   published" in said


def test_variants_have_labels_and_runs_of_their_own(distil, output, capsys):
    line = (
        "methods=[kd, {name: kd, label: 'soft targets', temperature: 8}, {name: kd, label: hard, weights: {kd: 0}}]"
    )
    assert distil(line) == 0
    shown = capsys.readouterr().out
    assert "soft targets" in shown
    assert result(output, "soft_targets")["config"]["method"]["temperature"] == 8
    assert result(output, "hard")["config"]["method"]["weights"] == {"ce": 0.1, "kd": 0}
    assert len({run_folder(output, label).name for label in ("kd", "soft_targets", "hard")}) == 3
    assert not same(weights(output, "kd"), weights(output, "soft_targets"))


def test_brackets_in_a_label_are_shown_as_typed(distil, capsys):
    assert distil("methods=[{name: none, label: 'plain [b]'}, {name: none, label: 'plain [/b]'}]") == 0
    shown = capsys.readouterr().out
    assert "published" not in shown  # of digits nothing is
    assert shown.count("plain [b]") >= 3  # announced, in every epoch's line, in the table
    assert "plain [/b]" in shown


def test_brackets_in_the_output_folder_are_shown_as_typed(distil, tmp_path, capsys):
    assert distil("method=none", f"output='{tmp_path}/[b]runs'") == 0
    assert f"{tmp_path}/[b]runs" in capsys.readouterr().out


def test_the_student_alone_needs_no_teacher(distil, tmp_path):
    assert distil("method=none", f"teacher.root={tmp_path}/store") == 0
    assert not (tmp_path / "store").exists()


def test_one_command_trains_and_stores_the_teacher_and_the_next_uses_it(distil, tmp_path, capsys):
    words = [f"teacher.root={tmp_path}/store", "train.max_steps=2"]
    assert distil("method=kd", *words) == 0
    assert "trained first" in capsys.readouterr().out
    stored = files(tmp_path / "store")
    left = {"teacher.safetensors", "card.json", "images.json"}
    assert {path.rpartition("/")[2] for path in stored} - {".lock"} == left
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.*")}
    assert distil("method=kd", "seed=1", *words) == 0  # one teacher serves all seeds
    assert "trained first" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.*")} == before


def teacher_file(teacher_root):
    (path,) = teacher_root.rglob("teacher.safetensors")
    return path


def test_a_teachers_checkpoint_gives_what_the_store_gives(distil, teacher_root, tmp_path):
    state = safetensors.torch.load_file(teacher_file(teacher_root))
    torch.save({"epoch": 240, "model": state, "best_acc": torch.tensor(1.0)}, tmp_path / "teacher.pth")
    assert distil("method=kd", f"output={tmp_path}/store") == 0
    words = ["method=kd", f"teacher.checkpoint={tmp_path}/teacher.pth", f"teacher.root={tmp_path}/nothing"]
    assert distil(*words, f"output={tmp_path}/file") == 0
    assert run_folder(tmp_path / "file", "kd").name == run_folder(tmp_path / "store", "kd").name
    assert same(weights(tmp_path / "file", "kd"), weights(tmp_path / "store", "kd"))
    assert not (tmp_path / "nothing").exists()


def test_a_teacher_far_from_what_its_file_claims_is_refused(distil, teacher_root, tmp_path, output, capsys):
    state = safetensors.torch.load_file(teacher_file(teacher_root))
    torch.save({"model": state, "best_acc": 74.6}, tmp_path / "teacher.pth")
    assert distil("method=kd", f"teacher.checkpoint={tmp_path}/teacher.pth") == 2
    assert "74.60" in capsys.readouterr().err
    assert not output.is_dir() or not files(output)


def table_row(text, name):
    """The cells of a row of the closing table, which stands behind its title."""
    rows = text[text.rindex("top-1 in %") :].splitlines()
    return next(row for row in rows if row.strip(" │┃|").startswith(name)).replace("│", " ").split()


def test_gain_appears_once_the_student_alone_was_run(distil, output, capsys):
    assert distil("method=kd") == 0
    shown = capsys.readouterr().out
    assert "method=none" in shown
    assert distil("method=none") == 0
    capsys.readouterr()
    assert distil("method=kd") == 0
    shown = capsys.readouterr().out
    gain = result(output, "kd")["summary"]["test/top1_last"] - result(output, "none")["summary"]["test/top1_last"]
    assert f"{gain:+.2f}" in table_row(shown, "kd")
    assert "the same command with method=none" not in shown


def test_gain_appears_whatever_the_schedule_of_the_distillation_terms(distil, capsys):
    """The advice that is printed must work: the student alone has no term that a schedule could change."""
    assert distil("method=kd", "loss.schedule=linear") == 0
    assert "the same command with method=none" in capsys.readouterr().out
    assert distil("method=none", "loss.schedule=linear") == 0
    capsys.readouterr()
    assert distil("method=kd", "loss.schedule=linear") == 0
    assert "the same command with method=none" not in capsys.readouterr().out


def test_gain_in_a_rerun_is_over_the_student_alone_beside_it(distil, output, capsys):
    assert distil("methods=[none,kd]", "rerun=true") == 0
    shown = capsys.readouterr().out
    gain = result(output, "kd")["summary"]["test/top1_last"] - result(output, "none")["summary"]["test/top1_last"]
    assert f"{gain:+.2f}" in table_row(shown, "kd")
    assert "the same command with method=none" not in shown


def test_validation_never_touches_the_test_images(distil, output, tmp_path, monkeypatch):
    poison_test_images(monkeypatch)
    with pytest.raises(AssertionError, match="test images are read"):
        distil("method=none")
    words = ["data.validation=0.2", f"teacher.root={tmp_path}/store"]
    assert distil("methods=[none,kd]", *words) == 0  # trains its teacher, too
    content = result(output, "kd")
    assert set(content["summary"]) == {"val/top1_last", "val/top1_best", "teacher/top1"}
    assert {key for key in content["history"][0] if "top" in key} == {"train/top1", "val/top1", "val/top5"}
    (card,) = (tmp_path / "store").rglob("card.json")
    assert json.loads(card.read_text())["validation"] == 0.2
    assert "test/top1" not in json.loads(card.read_text())["history"][0]


def test_a_loss_that_is_not_finite_stops_its_student(distil, output, capsys):
    assert distil("method=none", "train.lr=1e9", "train.milestones=[]") == 1
    shown = capsys.readouterr()
    assert "none" in shown.err
    assert "ce" in shown.err.split()
    assert "step " in shown.err
    assert "Traceback" not in shown.err
    assert not list(output.rglob("result.json"))
    assert not list(output.rglob("*.pt"))
    assert distil("method=none") == 0


class Exploding(Method[InjectedConfig]):
    """Its term is NaN from the fifth step on."""

    needs = frozenset({"logits"})

    def __init__(self, config, context):
        super().__init__(config, context)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, student, teacher, target, index):
        self.calls += 1
        factor = torch.where(self.calls >= 5, torch.nan, 1e-3)
        return {"injected": factor * student.logits.square().mean()}


def test_others_of_a_cohort_go_on_where_one_fails(distil, output, tmp_path, capsys):
    assert distil("method=kd", f"output={tmp_path}/alone") == 0
    capsys.readouterr()
    with injected(Exploding):
        assert distil("methods=[kd,injected]") == 1
        shown = capsys.readouterr()
        assert "injected" in shown.err
        assert "step 5" in shown.err
        assert "Traceback" not in shown.err
        assert not (run_folder(output, "injected") / "result.json").exists()
        assert same(weights(output, "kd"), weights(tmp_path / "alone", "kd"))
        assert f"{result(output, 'kd')['summary']['test/top1_last']:.2f}" in shown.out
        assert distil("methods=[kd,injected]") == 1  # again, and no worse


def test_a_student_that_failed_does_not_cost_the_others_their_progress(distil, output, capsys):
    with injected(Exploding):
        with interrupted_at(7):
            assert distil("methods=[kd,injected]", "train.epochs=3", "teacher.epochs=2") == 143
        capsys.readouterr()
        assert distil("methods=[kd,injected]", "train.epochs=3", "teacher.epochs=2") == 1
    assert "continued at step 7 of 9" in capsys.readouterr().out
    assert len(result(output, "kd")["history"]) == 3


class TeacherSpoiler(Method[InjectedConfig]):
    """Adds to every network in eval mode that it can find: no method has an honest way to its teacher."""

    needs = frozenset({"logits"})
    calls, after = 0, 0

    def forward(self, student, teacher, target, index):
        type(self).calls += 1
        if type(self).calls > self.after:
            for each in gc.get_objects():
                if issubclass(type(each), Network) and not each.training:
                    next(iter(each.state_dict().values())).add_(1)
        return {"injected": student.logits.square().mean()}


@pytest.mark.parametrize("after", [0, 4], ids=["at once", "later"])
def test_a_method_that_modifies_the_teacher_is_refused(after, distil, output, capsys):
    spoiler = type("Spoiler", (TeacherSpoiler,), {"after": after, "calls": 0})
    with injected(spoiler):
        assert distil("methods=[injected]") == 1
    shown = capsys.readouterr()
    assert "teacher" in shown.err
    assert "chang" in shown.err
    assert "Traceback" not in shown.err
    assert not list(output.rglob("result.json"))
    if not after:
        assert not files(output)


def test_the_quick_data_set_is_offered_before_a_first_teacher_alone(distil, tmp_path, capsys):
    """Whoever has one is at work, and reads the same line with every run."""
    Copy().parquet(tmp_path / "data" / "cifar100")
    folders = (f"data.root={tmp_path}/data", f"data.cache={tmp_path}/cache", f"teacher.root={tmp_path}/teachers")
    offered = []
    for seed in range(2):
        assert (
            distil("method=kd", "data=cifar100", *folders, "train.epochs=1", "train.max_steps=1", f"seed={seed}")
            == 0
        )
        offered.append("data=digits" in capsys.readouterr().out)
    assert offered == [True, False]


class FeatureSpoiler(Method[InjectedConfig]):
    """Writes into what all methods of a cohort are shown."""

    needs = frozenset({"logits", "stages"})

    def forward(self, student, teacher, target, index):
        for shared in (teacher.logits, teacher.stages[1]):
            shared.mul_(-1)
        return {"injected": student.logits.square().mean()}


class LabelHider(Method[InjectedConfig]):
    """Compares the logits of all other classes, and takes the label's out in place."""

    needs = frozenset({"logits"})

    def forward(self, student, teacher, target, index):
        student.logits.scatter_(1, target[:, None], -100)
        return {"injected": student.logits.softmax(1).square().mean()}


def test_a_method_that_writes_into_its_students_features_is_refused(distil, output, capsys):
    """Else its accuracy in training would be 0, without a word."""
    with injected(LabelHider):
        assert distil("method=injected") == 2
    assert "injected writes into the student's features" in capsys.readouterr().err
    assert not files(output)


def test_a_method_that_writes_into_the_teachers_features_is_refused(distil, output, capsys):
    """Its neighbours read them, too."""
    with injected(FeatureSpoiler):
        assert distil("methods=[injected,kd]") == 1
    assert "injected writes into the teacher's features" in capsys.readouterr().err
    assert not files(output)


class Straying(Method[InjectedConfig]):
    """Says that it reads one stage, and reads what a test says."""

    needs = frozenset({"stages"})
    stages_read = {1}, {1}
    read = staticmethod(lambda maps: maps[1])

    def forward(self, student, teacher, target, index):
        return {"injected": self.read(student.stages).square().mean()}


@pytest.mark.parametrize(
    ("read", "stage"),
    [
        (lambda maps: maps[-1], "3"),
        (lambda maps: maps[1:][0], "2"),
        (lambda maps: list(maps)[1], "0"),
        (lambda maps: (maps + maps)[1], "0"),
        (lambda maps: list(reversed(maps))[2], "3"),
    ],
)
def test_a_method_that_reads_another_stage_than_it_says_is_refused(
    read, stage, distil, output, capsys, monkeypatch
):
    monkeypatch.setattr(Straying, "read", staticmethod(read))
    with injected(Straying):
        assert distil("methods=[injected,kd]") == 2
    assert f"method injected reads stages[{stage}], a stage that its stages_read" in capsys.readouterr().err
    assert not files(output)


@pytest.mark.parametrize("stages", [({1}, {1}), ({1}, ()), (range(1, 3), {3})], ids=str)
def test_a_method_is_shown_the_stages_that_it_says_it_reads(distil, stages, monkeypatch):
    monkeypatch.setattr(Straying, "stages_read", stages)
    with injected(Straying):
        assert distil("methods=[injected,kd]") == 0


def test_a_method_that_reads_any_stage_may_do_with_the_maps_as_with_any_tuple(distil, monkeypatch):
    monkeypatch.setattr(Straying, "stages_read", None)
    monkeypatch.setattr(Straying, "read", staticmethod(lambda maps: (maps + maps)[0]))
    with injected(Straying):
        assert distil("methods=[injected]") == 0


@pytest.mark.parametrize(("stages", "whose"), [(({-1}, {1}), "student"), (({1}, {1, 4}), "teacher")])
def test_a_stage_that_there_is_not_cannot_be_read(distil, output, stages, whose, monkeypatch, capsys):
    monkeypatch.setattr(Straying, "stages_read", stages)
    with injected(Straying):
        assert distil("methods=[injected]") == 2
    assert f"stages_read: the {whose} has stages 0 to 3" in capsys.readouterr().err
    assert not files(output)


class Roving(Straying):
    """Reads another stage in each epoch."""

    def epoch(self, e):
        self.stage = 1 + max(e, 0)

    def forward(self, student, teacher, target, index):
        return {"injected": student.stages[self.stage].square().mean()}


class Predicting(Straying):
    """Reads another stage where it takes part in prediction."""

    def predict(self, student):
        return dataclasses.replace(student, logits=student.logits + student.stages[2].mean())


@pytest.mark.parametrize("cls", [Roving, Predicting])
def test_a_method_whose_reading_may_change_is_shown_all_stages(distil, output, cls):
    with injected(cls):
        assert distil("methods=[injected]", "train.epochs=2") == 0
    assert all(row["train/loss/injected"] > 0 for row in result(output, "injected")["history"])


class Idle(Method[InjectedConfig]):
    needs = frozenset({"logits"})

    def __init__(self, config, context):
        super().__init__(config, context)
        self.connector = nn.Linear(10, 10)
        self.idle = nn.Linear(3, 3)

    def forward(self, student, teacher, target, index):
        return {"injected": self.connector(student.logits).square().mean()}


class Hidden(Idle):
    """Its connector is in a plain list, where torch does not see it: it would never be trained."""

    def __init__(self, config, context):
        super().__init__(config, context)
        del self.idle
        self.plain = [nn.Linear(10, 10)]

    def forward(self, student, teacher, target, index):
        return {"injected": self.connector(self.plain[0](student.logits)).square().mean()}


class Late(Idle):
    """Makes its connector when first called, after the optimiser was built."""

    def __init__(self, config, context):
        super().__init__(config, context)
        del self.idle, self.connector

    def forward(self, student, teacher, target, index):
        if not hasattr(self, "connector"):
            with torch.random.fork_rng():
                self.connector = nn.Linear(10, 10)
        return {"injected": self.connector(student.logits).square().mean()}


@pytest.mark.parametrize(("cls", "name"), [(Idle, "idle"), (Hidden, ""), (Late, "connector")])
def test_a_method_with_a_parameter_that_would_not_learn_is_refused(cls, name, distil, output, capsys):
    with injected(cls):
        assert distil("methods=[injected]") == 1
    shown = capsys.readouterr()
    assert "injected" in shown.err
    assert name in shown.err
    assert "parameter" in shown.err
    assert not files(output)


class Lossless(Method[InjectedConfig]):
    """Its losses are what a test says."""

    needs = frozenset({"logits"})
    losses = staticmethod(lambda student, teacher: {})

    def forward(self, student, teacher, target, index):
        return type(self).losses(student, teacher)


def scalar(part):
    return part.square().mean()


BROKEN = {
    "another term": (lambda s, t: {"other": scalar(s.logits)}, ["{other}", "{injected}"]),
    "no term": (lambda s, t: {}, ["{}", "{injected}"]),
    "one more": (lambda s, t: dict.fromkeys(("injected", "other"), scalar(s.logits)), ["{injected, other}"]),
    "the harness's": (lambda s, t: dict.fromkeys(("injected", "ce"), scalar(s.logits)), ["{ce, injected}"]),
    "no scalar": (lambda s, t: {"injected": s.logits - t.logits}, ["term injected", "[8, 10]", "scalar"]),
    "a number": (lambda s, t: {"injected": 1.0}, ["term injected", "float", "scalar"]),
    "no names": (lambda s, t: scalar(s.logits), ["a Tensor", "a dict"]),
    "maps": (lambda s, t: {"injected": scalar(s.stages[1])}, ["stages", "needs", "{logits}"]),
    "embedding": (lambda s, t: {"injected": scalar(s.logits) + scalar(t.embedding)}, ["embedding", "{logits}"]),
    "others' numbers": (
        lambda s, t: {"injected": scalar(s.logits * torch.rand(10))},
        ["global random numbers", "generator=self.generator"],
    ),
}


@pytest.mark.parametrize(("losses", "fragments"), BROKEN.values(), ids=BROKEN)
def test_a_method_that_reads_or_gives_what_it_does_not_say_is_refused(losses, fragments, distil, output, capsys):
    with injected(type("Broken", (Lossless,), {"losses": staticmethod(losses)})):
        assert distil("methods=[injected]") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(fragment in line for fragment in ["method injected", *fragments])
    assert not files(output)


@pytest.mark.parametrize(
    ("losses", "warned"),
    [
        (lambda s, t: {"injected": scalar(s.logits.detach())}, True),
        (lambda s, t: {"injected": scalar(t.logits)}, True),
        (lambda s, t: {"injected": scalar(s.logits) + scalar(s.logits.detach())}, False),
    ],
)
def test_a_loss_of_which_the_student_gets_no_gradient_is_told(losses, warned, distil, capsys):
    with injected(type("Deaf", (Lossless,), {"losses": staticmethod(losses)})):
        assert distil("methods=[injected]") == 0
    told = "injected: in its first step the student gets no gradient of injected"
    assert " ".join(capsys.readouterr().out.split()).count(told) == warned


def test_a_method_that_forgets_its_needs_is_refused(distil, capsys):
    with injected(type("Forgetful", (Lossless,), {"needs": frozenset()})):
        assert distil("methods=[injected]") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(fragment in line for fragment in ("method injected", "{injected}", "needs"))


class Misshapen(Idle):
    def forward(self, student, teacher, target, index):
        return {"injected": (student.logits - teacher.logits[:, 1:]).square().mean()}


def test_an_error_of_torchs_in_a_method_is_told_with_its_place(distil, output, capsys):
    with injected(Misshapen):
        assert distil("methods=[injected]") == 2
    what, where = capsys.readouterr().err.splitlines()
    assert "injected cannot serve the pair" in what
    line = Path(__file__).read_text().splitlines().index(inspect.getsource(Misshapen).splitlines()[-1]) + 1
    assert where.strip() == f"{__file__}, line {line}"
    assert not files(output)


class Dropping(ResNet):
    """With dropout before its classifier."""

    def features(self, images, preacts=False):
        shown = super().features(images, preacts)
        return dataclasses.replace(shown, logits=nn.functional.dropout(shown.logits, 0.1, self.training))


def test_a_network_that_draws_random_numbers_is_refused(distil, output, monkeypatch, capsys):
    monkeypatch.setitem(_NETWORKS, "dropping", NetworkEntry(partial(Dropping, 8, NARROW), 0.05))
    assert distil("methods=[none,kd]", "pair.student=dropping") == 2
    shown = capsys.readouterr().err
    assert "network dropping draws torch's global random numbers" in shown
    assert not files(output)


SHOWN = {
    "a tuple": (lambda shown: (shown.logits,), "gives a tuple"),
    "flat maps": (lambda shown: dataclasses.replace(shown, stages=(shown.embedding,)), "maps are [2, 64], [2, 16"),
    "no maps": (lambda shown: dataclasses.replace(shown, stages=(), preacts=(), final=None), "none of 2 images"),
    "a map as embedding": (
        lambda shown: dataclasses.replace(shown, embedding=shown.final),
        "[2, 64, 8, 8], [2, 10]",
    ),
    "other classes": (lambda shown: dataclasses.replace(shown, logits=shown.logits[:, :5]), "[2, 64], [2, 5]"),
}


@pytest.mark.parametrize(("change", "fragment"), SHOWN.values(), ids=SHOWN)
def test_a_network_that_shows_something_else_than_features_is_refused(
    change, fragment, distil, output, monkeypatch, capsys
):
    class Showing(ResNet):
        def features(self, images, preacts=False):
            return change(super().features(images, preacts))

    monkeypatch.setitem(_NETWORKS, "showing", NetworkEntry(partial(Showing, 8, NARROW), 0.05))
    feature_spec.cache_clear()
    assert distil("method=none", "pair.student=showing") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "network showing" in line
    assert fragment in line
    assert not files(output)


class Bug(Idle):
    def forward(self, student, teacher, target, index):
        return {"injected": student.logits[99].square().mean()}


def test_a_bug_in_a_method_is_not_reported_as_the_users_mistake(distil, output):
    with injected(Bug), pytest.raises(IndexError):
        distil("methods=[injected]")
    assert not files(output)


def test_a_damaged_result_is_named(distil, output, capsys):
    assert distil("method=none") == 0
    path = run_folder(output, "none") / "result.json"
    path.write_text(path.read_text()[:50])
    assert distil("method=none") == 2
    assert str(path) in capsys.readouterr().err


def test_an_unwritable_output_is_refused_before_anything_is_spent(distil, tmp_path, capsys, no_training):
    no_training()
    (tmp_path / "file").write_text("")
    assert distil("method=none", f"output={tmp_path}/file") == 2
    assert f"output={tmp_path}/file is a file" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "runs")  # of a disk that is not mounted
    assert distil("method=none", f"output={tmp_path}/link") == 2
    assert f"output={tmp_path}/link is a link to what is not there" in capsys.readouterr().err


def test_lines_without_a_terminal_have_no_control_characters(distil, capsys):
    assert distil("methods=[none,aftkd]") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\r" not in shown
    epochs = [line for line in shown.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == 4
    assert len({line.index(" test ") for line in epochs}) <= 2  # one column a student


def test_rows_stand_in_columns_whatever_the_script_of_a_label(distil, capsys, tmp_path):
    variants = "methods=[kd,{name: kd, label: '蒸馏法', temperature: 2}]"
    assert distil(variants, "train.max_steps=1", "train.epochs=1", f"teacher.root={tmp_path / 'teachers'}") == 0
    rows = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ") and "teacher" not in line
    ]
    assert len({cell_len(row.split("lr ")[0]) for row in rows}) == 1 < len(rows)


def test_the_settings_that_are_announced_are_those_that_act(distil, capsys, tmp_path):
    variants = "methods=[at,{name: at, label: both, weights: {kd: 1}},{name: aftkd, content: features}]"
    assert distil(variants, "train.max_steps=1", "train.epochs=1", f"teacher.root={tmp_path / 'teachers'}") == 0
    printed = capsys.readouterr().out.splitlines()
    lines = {line.split(":")[0]: line for line in printed if " loss.schedule=" in line}
    assert ("temperature=" in lines["at"], "temperature=" in lines["both"]) == (False, True)
    (features,) = (line for label, line in lines.items() if "aftkd" in label)
    assert "content=features" in features
    assert "degree=" not in features
