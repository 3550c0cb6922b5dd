"""What a plan counts on: memory, and time from measured throughput."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import IMPOSSIBLE

import methods
from benchmarks import data, models
from benchmarks.cli import compose_config
from benchmarks.files import read_record, write_record
from benchmarks.identity import LONGEST_NAME, hardware
from benchmarks.suite import memory
from benchmarks.suite.command import COMMAND
from benchmarks.suite.config import SuiteConfig
from benchmarks.suite.estimate import Rates, effort_of_students, effort_of_teacher
from benchmarks.suite.grid import cohorts
from benchmarks.suite.plan import Plan
from benchmarks.suite.publish import publish
from benchmarks.suite.states import PLAN
from benchmarks.teachers import TeacherPlan
from benchmarks.training.build import build_member, feature_spec, frozen

WORDS = ("pairs=[{teacher: resnet14, student: resnet8}]", "data=digits", "train.batch_size=8", "train.epochs=5")


def students_of(*words):
    (cohort,) = cohorts(*compose_config(COMMAND, [*WORDS, *words]))
    return cohort.students()


def macs(name):
    """Multiply–accumulates of a forward pass of one image, by torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        models.create(name, 10).eval()(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("words", "num_train", "num_evaluated"),
    [
        ([], 1437, 360),
        (["train.max_steps=10"], 80, 360),
        (["train.max_steps=1000"], 1437, 360),
        (["data.validation=0.2"], 1150, 287),
    ],
)
def test_work_is_the_teachers_pass_and_three_of_each_student(words, num_train, num_evaluated):
    teacher, student = macs("resnet14"), macs("resnet8")
    effort = effort_of_students(students_of("methods=[none,kd,at]", *words))
    assert effort.macs_per_image == teacher + 9 * student
    assert effort.macs == 5 * (num_train * (teacher + 9 * student) + num_evaluated * 3 * student)


def put_result(output, student, rate, of=None, **changed):
    """A complete run of a cohort of two, which took in `rate` images a second."""
    train = {name: getattr(student.train, name) for name in ("batch_size", "precision", "device", "threads")}
    costs = {"teacher": {"macs": 100}, "student": {"macs": 10}}
    config = {"data": {"name": "digits"}, "train": train | changed, "costs": costs, "cohort": ["kd", "at"]}
    config |= {"teacher": {}} | (of or {})
    history = [{"throughput/images_per_s": 1.0}, {"throughput/images_per_s": rate}]
    folder = output / student.pair.name / "kd" / f"{rate}{changed}"
    write_record(folder / "result.json", {"config": config, "history": history})


def test_rates_are_of_the_same_networks_under_the_same_protocol(tmp_path):
    student, *_ = students_of("methods=[kd]")
    assert Rates(tmp_path, tmp_path).of_students(student) is None
    put_result(tmp_path, student, 7.0, threads=student.train.threads + 1)
    put_result(tmp_path, student, 8.0, batch_size=64)
    assert Rates(tmp_path, tmp_path).of_students(student) is None
    for rate in (2.0, 3.0, 40.0):
        put_result(tmp_path, student, rate)
    (tmp_path / student.pair.name / "kd" / "damaged").mkdir()
    (tmp_path / student.pair.name / "kd" / "damaged" / "result.json").write_text("{")
    assert Rates(tmp_path, tmp_path).of_students(student) == 3.0 * (100 + 2 * 3 * 10)


def test_the_student_alone_costs_no_pass_of_a_teacher(tmp_path):
    (student,) = students_of("methods=[none]")
    assert effort_of_students([student]).macs_per_image == 3 * macs("resnet8")
    put_result(tmp_path, student, 5.0, of={"teacher": None, "cohort": ["none"]})
    assert Rates(tmp_path, tmp_path).of_students(student) == 5.0 * 3 * 10


def put_card(folder, plan, rate, **changed):
    """A teacher that was trained like that of `plan`, at a rate of images a second."""
    card = {"data": "digits", "protocol": {"batch_size": plan.train.batch_size}}
    card |= {"precision": str(plan.train.precision), "environment": {"device": hardware(torch.device("cpu"))}}
    card |= {"history": [{"throughput/images_per_s": rate}]}
    write_record(folder / "card.json", card | changed)


def test_rates_of_teachers_are_from_their_cards(tmp_path):
    (cohort,) = cohorts(*compose_config(COMMAND, [*WORDS, "methods=[kd]", f"output={tmp_path}"]))
    plan = TeacherPlan.of(cohort.run)
    assert Rates(tmp_path, tmp_path).of_teacher(plan) is None
    put_card(tmp_path / "resnet14" / "elsewhere", plan, 2000.0, environment={"device": "a GPU"})
    put_card(tmp_path / "resnet14" / "one", plan, 20.0)
    put_card(tmp_path / "resnet14" / "imported", plan, 0.0, history=[])
    rate = Rates(tmp_path, tmp_path).of_teacher(plan)
    assert rate == 20 * 3 * macs("resnet14")
    assert effort_of_teacher(plan).macs / rate == pytest.approx(
        3 * (1437 + 360 / 3) / 20
    )  # digits have three epochs


def test_what_was_begun_is_estimated_from_its_own_pace_and_checkpoints(tmp_path):
    """Of an interrupted grid, in which nothing is complete."""
    words = [*WORDS, "methods=[none,at]", "train.max_steps=10", "teacher.epochs=5", "train.threads=1"]
    found = cohorts(*compose_config(COMMAND, [*words, f"output={tmp_path}"]))
    plan = Plan(SuiteConfig(output=str(tmp_path)), found)
    (teacher, cohort) = plan.tasks
    assert (plan.seconds(teacher), plan.seconds(cohort)) == (None, None)
    steps, batch, teachers_batch = 5 * 10, 8, 64
    for task, rate in ((teacher, 4.0), (cohort, 2.0)):
        progress = {"step": 30, "num_steps": steps, "images_per_s": rate}
        write_record(plan.place / f"{task.name}.progress.json", progress)
    assert plan.seconds(teacher) == pytest.approx(steps * teachers_batch / 4.0)
    assert plan.seconds(cohort) == pytest.approx(steps * batch / 2.0)

    place = TeacherPlan.of(teacher.run).folder
    place.mkdir(parents=True)
    for step in (10, 20):
        (place / f"checkpoint-{step:08d}.pt").touch()
    alone = next(cell.job.folder.path for cell in plan.all_cells() if cell.job)
    alone.mkdir(parents=True)
    (alone / "checkpoint--0000010.pt").touch()  # before the main training
    assert plan.seconds(teacher) == pytest.approx(30 * teachers_batch / 4.0)
    assert plan.seconds(cohort) == pytest.approx(steps * batch / 2.0)
    (alone / "checkpoint-00000040.pt").touch()  # the other has none yet
    assert plan.seconds(cohort) == pytest.approx(30 * batch / 2.0)

    write_record(plan.place / f"{cohort.name}.progress.json", {"step": 0, "num_steps": steps, "images_per_s": 0.0})
    assert plan.seconds(cohort) is None


def test_where_their_teacher_alone_was_trained_students_are_estimated_from_its_pace(tmp_path):
    words = [*WORDS, "methods=[none,kd]", "train.max_steps=10", "train.threads=1", f"output={tmp_path}"]
    plan = Plan(SuiteConfig(output=str(tmp_path)), cohorts(*compose_config(COMMAND, words)))
    (_, cohort) = plan.tasks
    put_card(tmp_path / "teachers" / "resnet14" / "other", TeacherPlan.of(cohort.run), 20.0)
    macs_per_s = 20.0 * 3 * macs("resnet14")
    assert plan.seconds(cohort) == pytest.approx(plan.effort(cohort).macs / macs_per_s)
    (student,) = students_of("methods=[kd]", "train.threads=1")
    put_result(tmp_path, student, 3.0)
    plan = Plan(SuiteConfig(output=str(tmp_path)), plan.cohorts)
    assert plan.seconds(cohort) == pytest.approx(plan.effort(cohort).macs / (3.0 * (100 + 2 * 3 * 10)))


@pytest.mark.parametrize("method", ["kd", "at", "crd", "aftkd"])
def test_memory_is_counted_from_above_and_not_by_far(method):
    (student,) = students_of(f"methods=[{method}]")
    split = data.INFO["digits"].load(None, None, "train")
    specs = (feature_spec("resnet8", data.INFO["digits"]), feature_spec("resnet14", data.INFO["digits"]))
    member = build_member(student, specs, split.targets, 100)
    teacher = frozen(models.create("resnet14", 10))
    images, target, index = torch.randn(8, 3, 32, 32), split.targets[:8], torch.arange(8)
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        shown = member.network.features(images, preacts=True)
        with torch.no_grad():
            taught = teacher.features(images, preacts=True)
        terms = member.method(shown, taught, target, index)
    parts = [*member.network.parameters(), *member.method.parameters()]
    state = sum(3 * 4 * part.numel() for part in parts)
    state += sum(b.numel() * b.element_size() for b in [*member.network.buffers(), *member.method.buffers()])
    weights = {part.untyped_storage().data_ptr() for part in parts}
    activations = sum(size for place, size in saved.items() if place not in weights)
    assert terms
    assert state + activations <= memory.bytes_of(student) <= state + 4 * activations


@pytest.mark.parametrize("data_set", ["cifar100", "tinyimagenet"])
def test_what_is_ample_is_more_than_any_method_needs(data_set):
    serving = [name for name in methods.available() if name not in IMPOSSIBLE]
    words = [f"data={data_set}", f"methods=[{','.join(serving)}]", "pairs=[wrn40_2_shufflev1]"]
    (cohort, *_) = cohorts(*compose_config(COMMAND, words))
    for student in cohort.students():
        assert memory.bytes_of(student) < memory.ample(student), student.label


def test_groups_are_equal_and_fit(monkeypatch):
    students = students_of("methods=[none,kd,at,crd,aftkd]")
    monkeypatch.setattr(memory, "bytes_of", lambda student: 10)
    monkeypatch.setattr(memory, "ample", lambda student: 100)
    assert memory.group_size(students, math.inf) == 5
    assert memory.group_size(students, 500) == 5  # ample: nothing is counted
    assert memory.group_size(students, 50) == 5
    assert memory.group_size(students, 49) == 3
    assert memory.group_size(students, 19) == 2
    assert memory.group_size(students, 1) == 1
    assert memory.room(torch.device("cpu"), 1) == math.inf


def test_what_does_not_fit_is_planned_as_several_tasks(monkeypatch, tmp_path):
    found = cohorts(*compose_config(COMMAND, [*WORDS, "methods=[none,kd,at]", f"output={tmp_path}"]))
    monkeypatch.setattr(memory, "group_size", lambda students, room: 2)
    plan = Plan(SuiteConfig(output=str(tmp_path)), found)
    first, second = plan.cohort_tasks.values()
    assert (first.name, first.labels) == ("resnet14_resnet8_seed_0-1", ["none", "kd"])
    assert (second.name, second.labels) == ("resnet14_resnet8_seed_0-2", ["at"])
    (teacher,) = plan.teacher_tasks
    assert first.after == second.after == teacher
    publish(plan)
    written = read_record(plan.place / PLAN)
    assert written["tasks"].keys() == {teacher, first.name, second.name}
    assert [[run["task"] for run in row["runs"]] for row in written["rows"]] == [
        [teacher],
        [first.name, first.name, second.name],
    ]


def test_tasks_of_networks_with_long_names_are_told_apart(monkeypatch, tmp_path):
    name = "network_" + 8 * "of_many_words_"
    monkeypatch.setitem(models.network._NETWORKS, name, models.entry("resnet8"))
    pairs = [f"{{teacher: {name}, student: resnet{6 * n + 2}, train: {{epochs: {n}}}}}" for n in (1, 2)]
    words = ["methods=[none,kd]", f"pairs=[{','.join(pairs)}]", "seeds=[0,1]", "data=digits", f"output={tmp_path}"]
    plan = Plan(SuiteConfig(output=str(tmp_path)), cohorts(*compose_config(COMMAND, words)))
    assert len(plan.cohort_tasks) == 4
    assert len(plan.teacher_tasks) == 2
    assert {cell.task for cell in plan.all_cells()} == plan.cohort_tasks.keys()
    assert all(len(task) <= LONGEST_NAME for task in [*plan.cohort_tasks, *plan.teacher_tasks])
