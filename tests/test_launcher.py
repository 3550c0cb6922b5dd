"""Steps that are recorded and replayed do what launched ones do: on the CPU by a CUDA graph's twin, bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import math
import signal

import pytest
import torch
from commands import TIMES, InjectedConfig, injected
from helpers import same_state
from students import CPU, SHORT, TRAIN, WHOLE, Presence, batches, launcher, member, teacher, teaching, train
from tape import Operation, Tapes, Tracks, Wait

import methods
from benchmarks.config import Optimizer, Precision
from benchmarks.data import EvaluationBatches
from benchmarks.errors import Interrupted
from benchmarks.training import cohort as cohorts
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.cohort import Cohort, Observer, Seat
from benchmarks.training.deviation import deviation
from benchmarks.training.device import autocast
from benchmarks.training.graphs import MOST_URGENT, Graphs, HostReads
from benchmarks.training.launcher import WARM_UP, Launcher, urgency
from benchmarks.training.teaching import Teaching
from benchmarks.training.view_table import ViewTable
from methods import Method
from methods.schedules import Schedule

EVERY = [
    (name, schedule)
    for name in methods.available()
    for schedule in (Schedule.default, Schedule.cosine, Schedule.adaptive)
    if schedule == Schedule.default
    or (name in ("kd", "aftkd", "crd") and not (schedule == Schedule.adaptive and methods.get(name).signed_terms))
]


@pytest.mark.parametrize(("name", "schedule"), EVERY)
def test_replayed_steps_are_launched_ones_to_the_bit(name, schedule):
    launched, replayed, said, tapes = member(name, schedule), member(name, schedule), [], Tapes()
    epochs = range(-launched.pretraining_epochs, 1)
    train([launched], launcher(), epochs)
    train([replayed], launcher(tapes, said), epochs)
    assert not said
    assert same_state(launched.state(0), replayed.state(0))
    assert tapes.played >= len(epochs)  # beside those that were the recording


@pytest.mark.parametrize("changes", [{"optimizer": Optimizer.dot}, {"precision": Precision.bf16}], ids=str)
def test_replayed_steps_under_another_protocol(changes):
    protocol = dataclasses.replace(TRAIN, **changes)
    launched, replayed = member("aftkd", train=protocol), member("aftkd", train=protocol)
    said = []
    for each, graphs in ((launched, None), (replayed, Tapes())):
        launch = Launcher(Teaching(teacher(), autocast(protocol, CPU)), batches(), graphs, said.append)
        train([each], launch, range(4))
    assert not said
    assert same_state(launched.state(0), replayed.state(0))


def test_a_cohort_is_replayed_as_one_and_each_member_as_if_alone():
    names, tapes = ("none", "kd", "crd", "mlkd", "ft"), Tapes()  # ft begins before the others, mlkd sees two views
    together = [member(name) for name in names]
    train(together, launcher(tapes), range(-1, 2))
    assert tapes.recorded == 2  # before the main training and in it, at both rates
    for each in together:
        alone = member(each.name)
        train([alone], launcher(), range(-alone.pretraining_epochs, 2))
        assert same_state(each.state(0), alone.state(0)), each.name


def test_students_whose_stage_before_the_training_is_shorter_are_proved_as_they_join():
    def together():
        return [member("ab", pretraining=1.0), member("ft", pretraining=0.5), member("kd")]

    tapes, said, launched, replayed = Asked(), [], together(), together()
    train(launched, launcher(), range(-2, 1))
    train(replayed, launcher(tapes, said), range(-2, 1))
    assert not said
    assert tapes.lanes_asked == [2, 3, 4]
    for one, other in zip(launched, replayed, strict=True):
        assert same_state(one.state(0), other.state(0)), one.name


TEACHING = 0  # the teacher's lane


@pytest.mark.parametrize(
    "ahead", [list, pytest.param(reversed, marks=pytest.mark.slow)], ids=["teacher first", "teacher last"]
)
def test_teacher_and_students_may_work_side_by_side(ahead):
    """Whoever runs ahead, each waits for what it reads: the students for the teacher, behind their own networks."""
    names, tapes = ("none", "kd", "at", "crd", "mlkd", "simkd", "aftkd", "ft"), Tapes(lambda: Tracks(ahead))
    launched, replayed = [member(name) for name in names], [member(name) for name in names]
    train(launched, launcher(), range(-1, 1))
    train(replayed, launcher(tapes), range(-1, 1))
    assert tapes.played == 2  # in the stage before and in the main training, each beside the recording
    for one, other in zip(launched, replayed, strict=True):
        assert same_state(one.state(0), other.state(0)), one.name
    for number, name in enumerate(names, start=1):
        track = tapes.tape.tracks[number]
        waits = [at for at, item in enumerate(track) if isinstance(item, Wait) and item.lane == TEACHING]
        assert len(waits) == (name != "none")
        for at in waits:
            assert any("convolution" in str(item.function) for item in track[:at] if isinstance(item, Operation))


class Asked(Tapes):
    """Notes how urgent the lanes were said to be."""

    def __init__(self):
        super().__init__()
        self.lanes_asked = []

    def lanes(self, urgency):
        self.urgency = urgency
        self.lanes_asked.append(len(urgency))
        return super().lanes(urgency)


def test_the_teacher_goes_first_and_then_who_has_most_to_do():
    tapes = Asked()
    train([member(name) for name in ("kd", "aftkd", "ft", "at")], launcher(tapes), range(-1, 1))
    teacher, kd, aftkd, ft, at = tapes.urgency
    assert teacher > aftkd > kd == ft == at == 0


def test_students_of_about_the_same_length_wait_for_each_other_alike():
    assert urgency([300]) == [MOST_URGENT, 0]
    assert urgency([300, 340, 330, 400]) == [MOST_URGENT, 0, 0, 0, 0]
    assert urgency([100, 150, 230, 120]) == [MOST_URGENT, 0, 0, 1, 0]
    assert urgency([100, 100, 100, 10_000]) == [MOST_URGENT, 0, 0, 0, MOST_URGENT - 1]


def test_looked_up_outputs_are_replayed_too():
    """The table is filled between the steps, and each replay reads what is there then."""
    source, parts = batches(), frozenset({"logits", "embedding"})
    shown = teaching().shows(parts, source.probe(4))
    table = ViewTable({part: getattr(shown, part) for part in parts}, source)
    launched, replayed, tapes = member("crd"), member("crd"), Tapes()
    launch = launcher(tapes, table=table)

    def look_and_launch(members, draws, step):
        for _ in teaching(table=table).look_ahead(draws):
            pass
        launch(members, draws, step)

    train([launched], launcher())
    train([replayed], look_and_launch)
    assert tapes.played
    assert same_state(launched.state(0), replayed.state(0))


# When a recording is made


def test_a_recording_serves_until_python_decides_anew():
    tapes = Tapes()
    launch, pair = launcher(tapes), [member("kd"), member("at")]
    train(pair, launch, range(1))
    train(pair, launch, range(1, 2))  # at a lower rate, which lies on the device
    assert tapes.recorded == 1
    train(pair[:1], launch, range(1, 2))  # without the other
    assert tapes.recorded == 2
    train(pair[:1], launch, range(1, 2))
    assert tapes.recorded == 2
    num_whole = WHOLE * 4
    assert tapes.played == num_whole - 2 * (WARM_UP + 1)


def test_a_short_batch_that_ends_the_epoch_has_a_recording_of_its_own():
    names, tapes, said = ("kd", "crd", "ctkd"), Tapes(), []
    launched, replayed = [member(name) for name in names], [member(name) for name in names]
    train(launched, launcher(), range(4))
    train(replayed, launcher(tapes, said), range(4))
    assert not said
    assert tapes.recorded == 2
    assert tapes.played == 4 * (WHOLE + 1) - 2 * (WARM_UP + 1)
    for one, other in zip(launched, replayed, strict=True):
        assert same_state(one.state(0), other.state(0)), one.name


def test_a_short_batch_is_not_replayed_unproved_and_leaves_the_others_alone():
    said = []
    launched, replayed = member("crd"), member("crd")
    tapes = WrongLater(replayed, forget_momentum)
    train([launched], launcher(), range(5))
    train([replayed], launcher(tapes, said), range(5))
    assert ["last step is launched" in reason and "off by" in reason for reason in said] == [True]
    assert same_state(launched.state(0), replayed.state(0))
    assert tapes.played == 5 * WHOLE - (WARM_UP + 1)


class Warming(Method[InjectedConfig]):
    """Has a factor that Python computes anew in each epoch."""

    needs = frozenset({"logits"})

    def epoch(self, e):
        self.factor = 1 / (1 + e)

    def forward(self, student, teacher, target, index):
        return {"injected": self.factor * (student.logits - teacher.logits).square().mean()}


def test_a_method_that_heeds_epochs_is_recorded_in_each():
    tapes = Tapes()
    with injected(Warming):
        launch, pair = launcher(tapes), [member("injected"), member("kd")]
        train(pair, launch)
    assert tapes.recorded == 2
    train(pair[1:], launch)
    assert tapes.recorded == 3


def test_a_factor_on_the_device_is_read_anew_by_each_replay():
    launched, replayed, tapes = member("ctkd"), member("ctkd"), Tapes()
    train([launched], launcher())
    train([replayed], launcher(tapes))
    assert tapes.recorded == 1  # for both epochs, whose λ differ
    assert same_state(launched.state(0), replayed.state(0))


# Where it cannot be


class Reading(Method[InjectedConfig]):
    """Reads a value back, as many implementations do."""

    needs = frozenset({"logits"})

    def forward(self, student, teacher, target, index):
        term = student.logits.square().mean()
        return {"injected": term * 2 if term.item() > 0 else term}


def test_a_step_that_needs_the_host_is_launched_and_said_where():
    said, tapes = [], Tapes()
    with injected(Reading):
        launched, replayed = member("injected"), member("injected")
        train([launched], launcher())
        train([replayed], launcher(tapes, said))
    (reason,) = said
    assert "aten::_local_scalar_dense in test_launcher.py, line " in reason
    assert "launched one by one" in reason
    assert tapes.recorded == 0
    assert same_state(launched.state(0), replayed.state(0))


@pytest.mark.parametrize(
    "read",
    [
        lambda values: values[0].item(),
        lambda values: bool(values[0] > 0),
        lambda values: values[values > 0],
        lambda values: values.nonzero(),
        lambda values: values * torch.tensor([1.0, 2.0, 3.0]),
        lambda values: torch.linalg.inv(torch.diag(values + 1)),
        lambda values: values.repeat_interleave(values.long()),
        lambda values: values.to("meta"),
        lambda values: values.unique_consecutive(),
    ],
)
def test_what_needs_the_host_is_found(read):
    with HostReads() as reads:
        read(torch.arange(3.0))
    assert "test_launcher.py" in reads.found


def test_what_does_not_need_the_host_is_let_pass():
    index = torch.tensor([2, 0])
    with HostReads() as reads:
        torch.where(torch.arange(3.0) > 1, 1.0, 0.0)[index].softmax(0).sum()
    assert reads.found is None


class Refusing(Graphs):
    def record(self, work, generators):
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        finally:
            raise RuntimeError("what the end of a recording says then")


class Wrong(Tapes):
    """Replays after which something is done to the student."""

    def __init__(self, student, harm):
        super().__init__()
        self.student, self.harm = student, harm

    def record(self, work, generators):
        replay, before = super().record(work, generators), copy.deepcopy(self.student.state(0))

        def wrong():
            replay()
            with torch.no_grad():
                self.harm(self.student, before)

        return wrong


def drift(student, before):
    student.network.bn1.bias.add_(1e-5)


def forget_weights(student, before):
    """Nothing but what batch norms and the bank keep has moved."""
    for parameter in (*student.network.parameters(), *student.method.parameters()):
        parameter.add_(student.main.optimizer.state[parameter]["momentum_buffer"], alpha=student.main.lr)


def forget_momentum(student, before):
    for state in student.main.optimizer.state.values():
        state["momentum_buffer"].zero_()


def draw_once_more(student, before):
    torch.rand(1, generator=student.method.generator)


@pytest.mark.parametrize(
    ("harm", "deterministic", "found"),
    [
        (drift, False, False),
        (drift, True, True),
        (forget_weights, False, True),
        (forget_momentum, False, True),
        (draw_once_more, False, True),
    ],
)
def test_replays_that_do_something_else_are_found_out_and_do_not_count(harm, deterministic, found, monkeypatch):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    said = []
    launched, replayed = member("crd"), member("crd")
    train([launched], launcher())
    train([replayed], launcher(Wrong(replayed, harm), said))
    assert ["off by" in reason for reason in said] == [True] * found
    assert same_state(launched.state(0), replayed.state(0)) == found


class WrongLater(Wrong):
    """Whose first recording is right."""

    def record(self, work, generators):
        return super().record(work, generators) if self.recorded else Tapes.record(self, work, generators)


def test_a_step_of_the_main_training_is_proved_after_one_of_the_stage_before():
    said = []
    launched, replayed = member("ft"), member("ft")
    train([launched], launcher(), range(-1, 2))
    train([replayed], launcher(WrongLater(replayed, forget_momentum), said), range(-1, 2))
    assert ["off by" in reason for reason in said] == [True]
    assert same_state(launched.state(0), replayed.state(0))


def test_who_joins_is_not_replayed_unproved():
    said = []
    launched, replayed = ([member("ab", pretraining=1.0), member("ft", pretraining=0.5)] for _ in range(2))
    train(launched, launcher(), range(-2, 1))
    train(replayed, launcher(WrongLater(replayed[1], draw_once_more), said), range(-2, 1))
    assert ["off by" in reason for reason in said] == [True]
    assert same_state(launched[1].state(0), replayed[1].state(0))


def test_a_teacher_shows_the_same_after_a_student_has_left(monkeypatch):
    """Else its compiled kernels would be made anew."""
    shown, members, launch = [], [member(name) for name in ("fitnet", "at", "fsp")], launcher()

    def watched(self, needs, *rest):
        shown.append(needs)
        return shows(self, needs, *rest)

    shows = Teaching.shows
    monkeypatch.setattr(Teaching, "shows", watched)
    train(members, launch, range(-1, 1))
    train(members[:1], launch, [1])
    before, main = shown[: WHOLE + 1], shown[WHOLE + 1 :]
    assert set(before) == {members[2].pretraining.needs}
    assert set(main) == {members[0].needs | members[1].needs}


def test_a_device_that_cannot_record_launches_and_says_why():
    said = []
    launched, replayed = member("aftkd"), member("aftkd")
    train([launched], launcher())
    train([replayed], launcher(Refusing(), said))
    assert said == [
        "note: steps are launched one by one, not replayed as a CUDA graph: "
        "operation not permitted when stream is capturing"
    ]
    assert same_state(launched.state(0), replayed.state(0))


def test_deviation_is_the_largest_of_the_parts_in_lengths_of_the_step():
    def state(weight=(0.0, 0.0), mean=(0.0,), count=0, momentum=(0.0, 0.0)):
        network = {"a.weight": torch.tensor(weight[:1]), "b.weight": torch.tensor(weight[1:])}
        network |= {"n.running_mean": torch.tensor(mean), "n.count": torch.tensor(count)}
        return {"network": network, "optimizer": {"state": {0: {"m": torch.tensor(momentum)}}}, "history": [{}]}

    start = state()
    launched = state((3.0, 4.0), (1000.0,), 1, (6.0, 8.0))
    assert deviation(start, launched, launched)[0] == 0
    assert deviation(start, launched, state((3.0, 4.5), (1000.0,), 1, (6.0, 8.0))) == (
        pytest.approx(0.1),
        "network.weight",
    )
    # Were all in one, the mean's step would drown the weights'.
    assert deviation(start, launched, state((0.0, 0.0), (1000.0,), 1, (6.0, 8.0))) == (1, "network.weight")
    assert deviation(start, launched, state((3.0, 4.0), (1000.0,), 1)) == (1, "optimizer.m")
    assert deviation(start, launched, state((3.0, 4.0), (1000.0,), 2, (6.0, 8.0))) == (math.inf, "network.count")
    lost = state((math.nan, 4.0), (1000.0,), 1, (6.0, 8.0))
    assert deviation(start, lost, lost)[0] == 0  # it diverges, which is found at the epoch's end
    assert deviation(start, lost, launched) == deviation(start, launched, lost) == (math.inf, "network.weight")


# In a training


class Notices(Observer):
    def __init__(self):
        self.said = []

    def on_notice(self, notice):
        self.said.append(notice)


def cohort(folder, graphs, monkeypatch, observers=()):
    monkeypatch.setattr(cohorts, "graphs_of", lambda train, device: graphs)
    return SHORT.cohort(("kd", "aftkd"), folder, observers=observers)


def outcome(training):
    return [(seat.member.network.state_dict(), seat.member.method.state_dict()) for seat in training.seats]


def test_a_training_is_the_same_replayed_and_continued(tmp_path, monkeypatch):
    launched = cohort(tmp_path / "launched", None, monkeypatch)
    with Presence():
        launched.run()

    class Stop(Observer):
        def on_step(self, step):
            if step == WHOLE:
                signal.raise_signal(signal.SIGTERM)

    stopped, continued = Tapes(), Tapes()
    with Presence():
        with pytest.raises(Interrupted):
            cohort(tmp_path / "replayed", stopped, monkeypatch, [Stop()]).run()
        replayed = cohort(tmp_path / "replayed", continued, monkeypatch)
        replayed.run()
    assert stopped.played
    assert continued.played
    assert same_state(outcome(launched), outcome(replayed))
    for one, other in zip(launched.seats, replayed.seats, strict=True):
        for ours, theirs in zip(one.member.history, other.member.history, strict=True):
            assert {key: ours[key] for key in ours if key not in TIMES} == {
                key: theirs[key] for key in theirs if key not in TIMES
            }


def test_a_training_goes_on_where_the_stage_before_it_has_lost_all_its_students(tmp_path, monkeypatch):
    monkeypatch.setattr(cohorts, "graphs_of", lambda train, device: Tapes())
    failing, alone, beside = member("ft", pretraining=1.0), member("kd"), member("kd")
    with torch.no_grad():
        next(failing.method.paraphraser.parameters()).fill_(math.nan)
    seats = [Seat(each, Checkpoints(tmp_path / each.name)) for each in (failing, beside)]
    for name, these in (("beside", seats), ("alone", [Seat(alone, Checkpoints(tmp_path / "alone"))])):
        Cohort(teaching(), these, batches(), EvaluationBatches(SHORT.data, CPU), TRAIN, []).run()
        assert len(these[-1].member.history) == TRAIN.epochs, name
    assert "of the pre-training" in seats[0].failure
    assert same_state(alone.network.state_dict(), beside.network.state_dict())


def test_observers_hear_why_steps_are_not_replayed(tmp_path, monkeypatch):
    notices = Notices()
    cohort(tmp_path, Refusing(), monkeypatch, [notices]).run()
    assert len(notices.said) == 1
