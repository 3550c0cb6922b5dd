"""The training loop's parts: meter, evaluation, learning rate, one step, one cohort."""

import copy
import dataclasses
import hashlib
import json
import math
import re
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from commands import InjectedConfig, injected
from helpers import Operations, epoch_of, no_host_reads, same_state
from hypothesis import given
from hypothesis import strategies as st
from students import CPU, SHORT, School

import methods
from benchmarks import metrics, models
from benchmarks.config import Precision
from benchmarks.data import UPRIGHT, Batch, EvaluationBatches
from benchmarks.errors import Interrupted
from benchmarks.streams import derive, global_stream, stream
from benchmarks.tensors import tensors_sha256
from benchmarks.training.autograd import leaves_by_term
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.cohort import Observer
from benchmarks.training.device import autocast, peak_gib
from benchmarks.training.evaluate import figures, logits_of
from benchmarks.training.meter import Meter
from benchmarks.training.signals import Interruption
from benchmarks.training.step import train_step, union_of_needs, views_of
from benchmarks.training.teaching import Teaching
from benchmarks.training.view_table import ViewTable
from benchmarks.workbench import prepare_torch
from methods import Method
from methods.schedules import Schedule

CLASSES = 7
ALL = methods.available()
TRAIN = dataclasses.replace(SHORT.train, epochs=4, batch_size=8, lr=0.1, milestones=[1, 3])
SCHOOL = School(TRAIN, num_train=20, classes=CLASSES)
batches, cohort, member = SCHOOL.batches, SCHOOL.cohort, SCHOOL.member
teacher, teaching = SCHOOL.teacher, SCHOOL.teaching
DATA = SCHOOL.data


# What is compared


@given(st.integers(0, 2**63 - 1), st.lists(st.sampled_from(["order", "augmentation", 0, 7]), max_size=3))
def test_a_stream_begins_where_the_hash_of_its_purpose_says(seed, purpose):
    """In whatever version: runs of one seed are paired, also those of years."""
    digest = hashlib.sha256(f"[{', '.join([str(seed), *map(json.dumps, purpose)])}]".encode()).hexdigest()
    assert derive(seed, *purpose) == int(digest[:16], 16) // 2 < 2**63
    numbers = torch.rand(3, generator=stream(seed, *purpose))
    assert torch.equal(numbers, torch.rand(3, generator=torch.Generator().manual_seed(derive(seed, *purpose))))
    before = torch.get_rng_state()
    with global_stream(seed, *purpose):
        assert torch.equal(torch.rand(3), numbers)
    assert torch.equal(torch.get_rng_state(), before)


def test_students_of_one_seed_begin_alike_whatever_their_method():
    alike = {tensors_sha256(member(name).network.state_dict()) for name in ALL}
    assert len(alike) == 1
    assert tensors_sha256(member("kd", seed=1).network.state_dict()) not in alike


def test_variants_of_a_method_begin_with_the_same_connectors():
    connectors = [
        tensors_sha256(member("fitnet", **settings).method.state_dict())
        for settings in ({}, {"label": "other", "weights": {"hint": 7.0}}, {"seed": 1})
    ]
    assert connectors[0] == connectors[1] != connectors[2]


# Meter


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.floats(0.01, 100), min_size=4, max_size=4)), min_size=1, max_size=6
    )
)
def test_meter_gives_sample_weighted_means(steps):
    meter = Meter(("ce", "kd"))
    generator = torch.Generator().manual_seed(0)
    sums = dict.fromkeys(("ce", "kd", "w_ce", "w_kd", "total", "correct", "samples"), 0.0)
    for size, (ce, kd, weight_ce, weight_kd) in steps:
        logits = torch.randn(size, CLASSES, generator=generator)
        targets = torch.randint(0, CLASSES, (size,), generator=generator)
        meter.update(torch.tensor([ce, kd]), torch.tensor([weight_ce, weight_kd]), logits, targets)
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
            sums["correct"] += row.index(max(row)) == target
        sums["samples"] += size
        for name, value in (("ce", ce), ("kd", kd), ("w_ce", weight_ce), ("w_kd", weight_kd)):
            sums[name] += size * value
        sums["total"] += size * (ce * weight_ce + kd * weight_kd)
    expected = {
        metrics.TRAIN_LOSS: sums["total"] / sums["samples"],
        metrics.TRAIN_TOP1: 100 * sums["correct"] / sums["samples"],
        "train/loss/ce": sums["ce"] / sums["samples"],
        "train/loss/kd": sums["kd"] / sums["samples"],
        "train/weight/ce": sums["w_ce"] / sums["samples"],
        "train/weight/kd": sums["w_kd"] / sums["samples"],
    }
    assert meter.row() == pytest.approx(expected, rel=1e-5)
    assert meter.failure() is None


def test_meter_begins_anew():
    meter = Meter(("ce",))
    update = (torch.ones(1), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    meter.update(torch.tensor([math.nan]), *update)
    assert "ce" in meter.failure()
    meter.reset()
    meter.update(torch.tensor([2.0]), *update)
    assert meter.row()["train/loss/ce"] == 2
    assert meter.row()[metrics.TRAIN_TOP1] == 100
    assert meter.failure() is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_meter_names_the_first_bad_term_and_step(bad):
    meter = Meter(("ce", "kd", "at"))
    update = (torch.ones(3), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    meter.update(torch.ones(3), *update)
    assert meter.failure() is None
    meter.reset()  # steps are counted on
    for losses in [[1, 1, 1], [1, 1, bad], [bad, bad, -bad], [1, 1, 1]]:
        meter.update(torch.tensor(losses, dtype=torch.float32), *update)
    assert meter.failure() == "the loss term at is not finite at step 3"  # counted from 1


def test_a_meter_costs_a_step_few_kernels():
    meter = Meter(("ce", "kd", "at"))
    step = (torch.ones(3), torch.ones(3), torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64))
    with Operations() as operations:
        meter.update(*step)
    assert len(operations.names) <= 11


# Evaluation


def test_evaluation_equals_a_plain_loop():
    network, other = (models.create("resnet8", CLASSES).train(mode) for mode in (True, False))
    batches = EvaluationBatches(DATA, CPU, batch_size=10)  # 10, 10, 3
    logits, others = logits_of([network, other], batches, autocast(TRAIN, CPU))
    found = figures(logits, DATA.evaluation.targets)
    assert network.training
    assert not other.training
    assert torch.equal(others, logits_of([other], batches, autocast(TRAIN, CPU))[0])
    network.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (DATA.mean, DATA.std))
    loss = top1 = top5 = 0.0
    with torch.no_grad():
        for image, target in zip(DATA.evaluation.images, DATA.evaluation.targets.tolist(), strict=True):
            logits = network(((image / 255 - mean) / std)[None])[0].double()
            order = logits.argsort(descending=True).tolist()
            loss -= logits.log_softmax(0)[target].item()
            top1 += order[0] == target
            top5 += target in order[:5]
    num_data = len(DATA.evaluation)
    expected = {"loss": loss / num_data, "top1": 100 * top1 / num_data, "top5": 100 * top5 / num_data}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert 0 < top1 < top5 < num_data
    logits_of([network], batches, autocast(TRAIN, CPU))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


# Learning rate


class Rates(Observer):
    """Notes the optimiser's learning rate at every step."""

    def __init__(self):
        self.found = []

    def on_start(self, members, step, num_steps):
        self.members = members

    def on_step(self, step):
        self.found.append([float(group["lr"]) for group in self.members[0].main.optimizer.param_groups])


def test_learning_rate_falls_after_each_milestone(tmp_path):
    rates = Rates()
    students = cohort(["fitnet"], tmp_path, observers=[rates])
    students.run()
    expected = [0.1, 0.01, 0.01, 0.001]
    steps = students.batches.steps_per_epoch
    assert steps == 3  # 8, 8, 4
    assert len(rates.found) == 4 * steps
    for epoch, lr in enumerate(expected):
        for found in rates.found[epoch * steps : (epoch + 1) * steps]:
            assert found == pytest.approx([lr] * len(found))
    assert [row[metrics.LR] for row in students.seats[0].member.history] == pytest.approx(expected)


# One step

# Weights that do not learn in the main training: another classifier is used, or they have learned before.
AT_REST = {"simkd": ("fc.",), "ft": ("paraphraser.",), "sskd": ("head_teacher.",)}


@pytest.mark.parametrize("schedule", [each for each in Schedule if each != Schedule.default])
def test_no_value_is_read_back_to_make_ready_for_a_step(schedule):
    """Steps are launched ahead of the device, and would wait for it there."""
    student = member("dkd", schedule=schedule)  # whose terms warm up
    with no_host_reads():
        for step in range(12):
            student.advance(step)


@pytest.mark.parametrize("name", ALL)
def test_optimiser_holds_every_parameter_once(name):
    student = member(name)
    held = [id(p) for group in student.main.optimizer.param_groups for p in group["params"]]
    owned = [id(p) for p in (*student.network.parameters(), *student.method.parameters())]
    assert sorted(held) == sorted(owned)
    assert len(set(held)) == len(held)
    for group in student.main.optimizer.param_groups:
        assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-4)


@pytest.mark.parametrize("name", ALL)
def test_a_step_trains_the_student_and_leaves_the_teacher(name):
    student, network = member(name), teacher()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    parameters = {key: value.detach().clone() for key, value in student.network.named_parameters()}
    connectors = {key: value.detach().clone() for key, value in student.method.named_parameters()}
    ran = []
    student.network.bn1.register_forward_hook(lambda *_: ran.append(1))
    for step, batch in enumerate(epoch_of(batches(), 0)):
        student.advance(step)
        batch = Batch.join([batch] * len(student.views))
        student.step(batch, partial(teaching(network).shows, student.needs, batch), step)
    assert len(ran) == 3  # one forward a step
    assert not network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    for key, value in (*student.network.named_parameters(), *student.method.named_parameters()):
        if key.endswith("weight"):
            moved = not torch.equal(value, parameters.get(key, connectors.get(key)))
            assert moved != key.startswith(AT_REST.get(name, ())), key


@pytest.mark.parametrize("name", ALL)
def test_every_term_reaches_the_student(name):
    student, batch = member(name), next(epoch_of(batches(), 0))
    batch = Batch.join([batch] * len(student.views))
    losses, _ = student.losses(batch, partial(teaching().shows, student.needs, batch))
    for leaves in leaves_by_term(losses):
        assert not leaves.isdisjoint(student.network.parameters())


def test_a_step_is_sgd_on_the_weighted_sum_of_the_terms():
    """Against the same step written out: weights and their schedule, momentum, decay on all parameters."""
    train = dataclasses.replace(TRAIN, lr=0.05)
    student, network = member("kd", Schedule.linear, train), teacher()
    twin = models.create("resnet8", CLASSES)
    twin.load_state_dict(student.network.state_dict())
    twin.train().to(memory_format=torch.channels_last)
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for step, batch in enumerate(epoch_of(batches(), 0)):
        student.advance(step)
        _, factor = student.main.schedule.factors.tolist()
        student.step(batch, partial(teaching(network).shows, student.needs, batch), step)
        logits = twin(batch.images)
        with torch.no_grad():
            soft = (network(batch.images) / 4).softmax(1)
        kd = (soft * (soft.log() - (logits / 4).log_softmax(1))).sum(1).mean() * 16
        gradients = torch.autograd.grad(
            0.1 * F.cross_entropy(logits, batch.targets) + 0.9 * factor * kd, list(twin.parameters())
        )
        with torch.no_grad():
            for p, g, v in zip(twin.parameters(), gradients, velocity, strict=True):
                v.mul_(0.9).add_(g + 5e-4 * p)
                p.sub_(0.05 * v)
    assert 0 < factor < 0.9
    for ours, expected in zip(student.network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


# Precision


class Witness(Method[InjectedConfig]):
    """Notes what it is shown."""

    needs = frozenset({"logits", "stages"})
    shown = None

    def forward(self, student, teacher, target, index):
        type(self).shown = (student, teacher, torch.is_autocast_enabled("cpu"))
        return {"injected": student.logits.square().mean()}


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_losses_are_computed_in_float32_outside_autocast(precision):
    train = dataclasses.replace(TRAIN, precision=precision)
    with injected(Witness):
        student, network = member("injected", train=train), teacher()
        seen = set()
        for each in (student.network, network):
            each.layer2.register_forward_hook(lambda module, args, out: seen.add(out[0].dtype))
        batch = next(epoch_of(batches(), 0))
        features = Teaching(network, autocast(train, CPU)).shows(union_of_needs([student]), batch)
        student.step(batch, lambda: features, 0)
    ours, theirs, within = Witness.shown
    assert not within
    assert {tensor.dtype for tensor in (*ours.tensors(), *theirs.tensors())} == {torch.float32}
    assert ours.preacts == theirs.preacts == ()  # not asked for
    assert len(ours.stages) == len(theirs.stages) == 4
    assert ours.logits.requires_grad
    assert not theirs.logits.requires_grad
    assert {p.dtype for p in student.network.parameters()} == {torch.float32}
    assert student.main.meter.sums.isfinite().all()
    rounded = any(torch.equal(stage, stage.bfloat16().float()) for stage in (theirs.stages[2],))
    assert rounded == (precision == Precision.bf16)


def test_only_the_declared_maps_are_shown():
    batch = next(epoch_of(batches(), 0))
    for needs in ({"logits"}, {"stages"}, {"preacts", "logits"}):
        shown = teaching().shows(frozenset(needs), batch)
        assert bool(shown.stages) == ("stages" in needs)
        assert bool(shown.preacts) == ("preacts" in needs)
    assert teaching().shows(frozenset(), batch) is None
    assert Teaching(None, autocast(TRAIN, CPU)).shows(frozenset({"logits"}), batch) is None


def test_a_step_that_looks_up_reads_nothing_back_and_leaves_the_teacher_alone():
    source, needs = batches(), frozenset({"logits", "embedding"})
    first, second, short = epoch_of(source, 0)
    shown = teaching().shows(needs, first)
    table = ViewTable({part: getattr(shown, part) for part in needs}, source)
    for _ in teaching(table=table).look_ahead([source.draws(0)]):
        pass
    plain, looking = member("crd"), member("crd")
    asked, blind = (teaching(), teaching()), (teaching(table=table), teaching(Unseeing(), table))
    for student, (taught, blindly) in ((plain, asked), (looking, blind)):
        with no_host_reads():
            train_step([student], taught, {UPRIGHT: first}, 0)
            train_step([student], blindly, {UPRIGHT: second}, 1)
            train_step([student], taught, {UPRIGHT: short}, 2)
    for one, other in zip(plain.network.parameters(), looking.network.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(AssertionError, match="looks"):  # maps are not kept, and so the teacher is asked
        train_step([member("at")], teaching(Unseeing(), table), {UPRIGHT: first}, 0)


class Unseeing(torch.nn.Module):
    """A teacher that must not look."""

    def features(self, images, preacts=False):
        raise AssertionError("it looks")


# Cohort


def run_steps(members, steps):
    """Training steps of the main stage, the same for any members."""
    taught = teaching()
    ready = list(epoch_of(batches(), 0))
    for step in steps:
        train_step(members, taught, dict.fromkeys(views_of(members), ready[step]), step)


def begun(name):
    student = member(name)
    student.begin_epoch(0, TRAIN.lr)
    return student


def snapshot(student):
    """Weights and everything that the next steps depend on."""
    return copy.deepcopy(student.state(step=2))


@pytest.fixture(scope="module")
def in_company():
    students = [begun(name) for name in ALL]
    run_steps(students, range(2))
    return {student.name: snapshot(student) for student in students}


@pytest.mark.parametrize("name", ALL)
def test_a_student_is_the_same_alone_in_company_and_resumed(name, in_company):
    student = begun(name)
    run_steps([student], [0])
    saved = snapshot(student)
    run_steps([student], [1])
    assert same_state(snapshot(student), in_company[name])
    assert not same_state(saved, in_company[name])

    resumed = begun(name)
    resumed.load(saved, step=1)
    run_steps([resumed], [1])
    assert same_state(snapshot(resumed), in_company[name])


@pytest.mark.parametrize("names", [("kd", "at"), ("kd", "reviewkd")], ids=["maps", "preacts"])
def test_the_teacher_looks_at_each_batch_once(names, tmp_path, monkeypatch):
    network = teacher()
    calls = []
    original = network.features

    def features(images, preacts=False):
        calls.append((images.shape[0], preacts))
        return original(images, preacts=preacts)

    monkeypatch.setattr(network, "features", features)
    cohort(names, tmp_path, network).run()
    preacts = "reviewkd" in names
    assert calls == [(8, preacts), (8, preacts), (4, preacts)] * TRAIN.epochs


def test_a_cohort_of_students_alone_asks_no_teacher(tmp_path):
    network = teacher()
    network.features = None
    cohort(["none"], tmp_path, network).run()


def test_history_has_a_row_an_epoch_with_every_metric(tmp_path):
    students = cohort(["aftkd", "none"], tmp_path)
    students.run()
    common = {"epoch", "lr", "train/loss", "train/top1", "test/loss", "test/top1", "test/top5", "test/ece"}
    common |= {"time/epoch_s", "throughput/images_per_s", "memory/peak_gib"}
    for seat, terms in zip(students.seats, (("ce", "kd", "afb"), ("ce",)), strict=True):
        assert [row["epoch"] for row in seat.member.history] == [1, 2, 3, 4]
        own = {f"train/{kind}/{term}" for kind in ("loss", "weight") for term in terms}
        for row in seat.member.history:
            assert {key for key in row if not key.startswith("train/diagnostic/")} == common | own
            assert all(isinstance(value, int | float) and math.isfinite(value) for value in row.values())
            total = sum(row[f"train/loss/{term}"] * row[f"train/weight/{term}"] for term in terms)
            assert row["train/loss"] == pytest.approx(total, rel=0.05)


def test_networks_compute_in_the_precision_of_the_training_in_every_stage_and_in_evaluations(tmp_path):
    train, seen = dataclasses.replace(TRAIN, epochs=1, batch_size=4, milestones=[], precision=Precision.bf16), {}

    def watch(who, network):
        def note(module, images, output):
            seen.setdefault((who, network.training), set()).add(output.dtype)

        next(each for each in network.modules() if isinstance(each, torch.nn.Conv2d)).register_forward_hook(note)

    taught = teacher()
    students = School(train, num_train=4, classes=CLASSES).cohort(["kd", "fsp"], tmp_path, taught)
    watch("teacher", taught)
    for seat in students.seats:
        watch(seat.member.name, seat.member.network)
    students.run()
    assert len(students.seats[1].member.pretraining_history) == 1
    moments = [("teacher", False), *((name, mode) for name in ("kd", "fsp") for mode in (True, False))]
    assert seen == {moment: {torch.bfloat16} for moment in moments}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")
def test_the_peak_of_memory_on_a_cpu_is_the_processs_in_gib():
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    found = peak_gib(CPU)
    assert 0.99 * int(kib) / 2**20 <= found < 100 * int(kib) / 2**20


def test_throughput_is_that_of_the_steps_and_an_epochs_time_is_that_of_all(tmp_path, monkeypatch):
    clock, evaluated = [0.0], EvaluationBatches.__iter__
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    class Slow(Observer):
        def on_step(self, step):
            clock[0] += 2

    def evaluate(self):
        clock[0] += 5
        yield from evaluated(self)

    monkeypatch.setattr(EvaluationBatches, "__iter__", evaluate)
    students = cohort(["none"], tmp_path, observers=[Slow()])
    students.run()
    for row in students.seats[0].member.history:
        assert row[metrics.IMAGES_PER_SECOND] == pytest.approx(20 / 6)  # in three steps
        assert row[metrics.EPOCH_SECONDS] == pytest.approx(6 + 5)


def test_evaluation_between_epochs_leaves_the_student_in_training_mode(tmp_path):
    modes = []

    class Modes(Observer):
        def on_start(self, members, step, num_steps):
            self.members = members

        def on_step(self, step):
            modes.extend([each.network.training and each.method.training for each in self.members])

    cohort(["fitnet"], tmp_path, observers=[Modes()]).run()
    assert modes
    assert all(modes)


@pytest.mark.parametrize(
    ("took", "waited", "written"), [(0.1, 11, True), (0.3, 11, False), (0.3, 31, True), (1000.0, 301, True)]
)
def test_checkpoints_that_are_dear_are_written_less_often(tmp_path, monkeypatch, took, waited, written):
    """At most a hundredth of the time goes into them, but for the one that is due every five minutes."""
    students = cohort(["kd"], tmp_path)
    written_at = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, state: written_at.append(step))
    students._committed, students._commit_took = time.monotonic() - waited, took
    students.run()
    assert bool(written_at) == written


class Stops(Observer):
    """Stops a student after an epoch."""

    def __init__(self, name, epoch):
        self.name, self.epoch, self.stopped = name, epoch, []

    def on_epoch(self, member, row):
        member.stopped = member.name == self.name and row["epoch"] == self.epoch

    def on_stop(self, member):
        self.stopped.append(member.name)


def test_a_student_that_is_stopped_leaves_and_the_others_stay_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.training.cohort.SECONDS_BETWEEN_CHECKPOINTS", 0)
    undisturbed, observer = cohort(["kd", "aftkd", "at"], tmp_path / "one"), Stops("aftkd", epoch=2)
    undisturbed.run()
    students = cohort(["kd", "aftkd", "at"], tmp_path / "other", observers=[observer])
    students.run()
    assert observer.stopped == ["aftkd"]
    assert [len(seat.member.history) for seat in students.seats] == [4, 2, 4]
    assert [bool(seat.checkpoints.steps()) for seat in students.seats] == [True, False, True]
    for k in (0, 2):
        one, other = (each.seats[k].member.network.state_dict() for each in (undisturbed, students))
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert undisturbed.seats[1].member.history[1]["test/top1"] == students.seats[1].member.history[1]["test/top1"]


def test_a_cohort_whose_students_are_all_stopped_ends(tmp_path):
    students = cohort(["kd"], tmp_path, observers=[Stops("kd", epoch=1)])
    students.run()
    assert students.step == 3
    assert students.active == []


def test_a_signal_counts_in_the_epoch_after_which_nobody_trains(tmp_path):
    """As where a study's trials are pruned: who called the cohort would go on with the next ones."""

    class Told(Stops):
        def on_stop(self, member):
            signal.raise_signal(signal.SIGTERM)

    students = cohort(["kd"], tmp_path, observers=[Told("kd", epoch=1)])
    with pytest.raises(Interrupted):
        students.run()
    assert not list((tmp_path / "kd").glob("*"))


def test_no_training_goes_on_under_a_signal_that_was_noted_before(tmp_path):
    students = cohort(["kd"], tmp_path)
    with Interruption():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            students.run()
    assert students.step == 1
    assert Checkpoints(tmp_path / "kd").steps() == {1}
    students.run()
    assert students.step == 12


def test_a_second_interrupt_ends_what_the_first_was_to_let_finish():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
            assert interruption.signum == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_determinism_ends_with_the_run_that_asked_for_it(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    train = dataclasses.replace(SHORT.train, threads=torch.get_num_threads())
    for asked in (True, False):
        prepare_torch(dataclasses.replace(train, deterministic=asked))
        assert torch.are_deterministic_algorithms_enabled() == asked
