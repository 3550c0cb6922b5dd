"""Trials that many workers share: none lost, none doubled, on every storage."""

import contextlib
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState
from postgres import free_port

from sweeps import ledger as ledger_module
from sweeps.ledger import Ledger, Pulse, origin, worker_name
from sweeps.storage import open_storage

POINTS = [{"x": 0.25}, {"x": 0.5}]


@contextlib.contextmanager
def proxy(path):
    """Optuna's gRPC proxy in front of a database; its URL."""
    pytest.importorskip("grpc")
    from optuna.storages._grpc.server import make_server

    port = free_port()
    server = make_server(open_storage(f"sqlite:///{path}"), "127.0.0.1", port)
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(grace=None)


@pytest.fixture(scope="module", params=["sqlite", "journal", "grpc", "postgresql"])
def url(request, tmp_path_factory):
    """The URL of a storage of each kind."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "postgresql":
        yield request.getfixturevalue("postgresql")
    elif request.param == "grpc":
        with proxy(folder / "studies.db") as address:
            yield address
    else:
        yield f"{request.param}:///{folder / 'deep' / 'studies'}"


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'studies.db'}"


@pytest.fixture
def ledger_of(request):
    """Makes a worker's ledger of this test's study, with a connection of its own."""

    def make(url, target=4, heartbeat=60.0, grid=False, worker="here:1"):
        study = optuna.create_study(
            storage=open_storage(url), study_name=request.node.name, direction="maximize", load_if_exists=True
        )
        ledger = Ledger(study, target, heartbeat, grid)
        ledger.worker = worker
        return ledger

    return make


@pytest.fixture
def later(monkeypatch):
    """A call after which so many seconds have passed since the test began."""

    def pass_by(seconds):
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds, time=time.time)
        monkeypatch.setattr(ledger_module, "time", clock)

    return pass_by


@pytest.fixture
def signed(monkeypatch):
    """Set by every signature."""
    event, sign = Event(), Ledger.sign

    def noted(*args):
        sign(*args)
        event.set()

    monkeypatch.setattr(Ledger, "sign", noted)
    return event


def draw(ledger, most=1):
    """Trials with their parameters."""
    trials = []
    for trial in ledger.draw(most):
        trial.suggest_float("x", 0, 1)
        trials.append(trial)
    return trials


def finish(ledger, trials):
    for trial in trials:
        ledger.study.tell(trial, trial.params["x"])


def states(ledger):
    return [trial.state for trial in ledger.study.get_trials(deepcopy=False)]


def finished_points(ledger):
    """Numbers of the points that were finished, as often as they were."""
    trials = ledger.study.get_trials(deepcopy=False)
    return sorted(trial.user_attrs.get("point", -1) for trial in trials if trial.state == TrialState.COMPLETE)


def test_points_come_first_and_once(url, ledger_of):
    one, other = (ledger_of(url, worker=worker) for worker in ("here:1", "there:2"))
    for ledger in (one, other, one):
        ledger.enqueue(POINTS)
    trials = [*draw(one), *draw(other), *draw(one), *draw(other)]
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert [trial.params["x"] for trial in trials[:2]] == [0.25, 0.5]
    assert not one.has_more()
    assert draw(one) == draw(other) == []
    finish(one, trials)
    assert one.finished() == 4
    assert one.running() == 0


def test_a_trial_of_a_dead_worker_is_queued_once_and_keeps_what_it_is(url, ledger_of, later):
    dead, one, other = (ledger_of(url, worker=worker) for worker in ("a:1", "b:1", "c:1"))
    dead.enqueue(POINTS)
    (lost,) = draw(dead)
    for ledger in (one, other):
        ledger.reclaim()
        assert one.running() == 1  # it may live
    later(300)
    one.reclaim()
    other.reclaim()
    trials = one.study.get_trials(deepcopy=False)
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.WAITING, TrialState.WAITING]
    assert trials[2].params == lost.params
    assert origin(trials[2]) == lost.number == 0
    drawn = [*draw(one, 2), *draw(other, 2)]
    assert sorted(origin(trial) for trial in drawn) == [0, 1, 3, 4]
    finish(one, drawn)
    assert finished_points(one) == [-1, -1, 0, 1]
    with pytest.raises(ValueError, match="FAIL"):
        dead.study.tell(lost, 0.5)


def test_workers_of_this_machine_that_are_no_more_are_found_at_once(sqlite, ledger_of):
    """By whose loss the next trial to be drawn would be another, were theirs not trained first."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid in (gone.pid, os.getpid()):
        other = ledger_of(sqlite, worker=worker_name(pid))
        (lost,) = other.draw(1)
        survivor = ledger_of(sqlite, worker=worker_name(os.getppid()))
        survivor.reclaim()
        (drawn,) = survivor.draw(1)
        assert (origin(drawn) == lost.number) == (pid == gone.pid)


def test_signatures_are_renewed_while_a_worker_lives(url, ledger_of, signed, later):
    ledger, other = ledger_of(url, heartbeat=0.05, worker="a:1"), ledger_of(url, worker="b:1")
    trials = draw(ledger)
    other.reclaim()
    later(300)
    signed.clear()
    with Pulse(ledger, trials):
        assert signed.wait(60)
    other.reclaim()
    assert other.running() == 1
    later(600)
    other.reclaim()
    assert other.running() == 0


def test_a_pulse_outlives_the_end_of_its_trials(sqlite, ledger_of, signed):
    ledger = ledger_of(sqlite, heartbeat=0.02)
    trials = draw(ledger, 2)
    with Pulse(ledger, trials):
        finish(ledger, trials[:1])
        for _ in range(2):  # the other's: of one that is finished none can be given
            signed.clear()
            assert signed.wait(60)


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("an RPC that the proxy did not answer")])
def test_signatures_go_on_when_a_storage_is_there_again(error, sqlite, ledger_of, signed, later, monkeypatch):
    ledger, other = ledger_of(sqlite, heartbeat=0.05, worker="a:1"), ledger_of(sqlite, worker="b:1")
    trials = draw(ledger)
    other.reclaim()
    sign, failed = Ledger.sign, Semaphore(0)

    def failing(*_):
        failed.release()
        raise error

    with Pulse(ledger, trials):
        monkeypatch.setattr(Ledger, "sign", failing)
        assert failed.acquire(timeout=60)
        assert failed.acquire(timeout=60)  # it tries again
        later(300)  # for so long that others take it for dead
        signed.clear()
        monkeypatch.setattr(Ledger, "sign", sign)
        assert signed.wait(60)
        other.reclaim()
    assert other.running() == 1


def test_one_that_died_before_it_signed_is_found_too(sqlite, ledger_of, later, monkeypatch):
    ledger = ledger_of(sqlite)
    monkeypatch.setattr(Ledger, "sign", lambda self, trial: None)
    draw(ledger)
    ledger.reclaim()
    assert ledger.running() == 1
    later(300)
    ledger.reclaim()
    assert states(ledger) == [TrialState.FAIL, TrialState.WAITING]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wrong_clock_makes_no_worker_dead_and_keeps_no_dead_one_alive(
    hours, sqlite, ledger_of, later, monkeypatch
):
    ledger, other = ledger_of(sqlite, worker="a:1"), ledger_of(sqlite, worker="b:1")
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "time", SimpleNamespace(time=lambda: time.time() + 3600 * hours))
        draw(ledger)
    other.reclaim()
    assert other.running() == 1
    later(300)
    other.reclaim()
    assert other.running() == 0


def test_a_trial_that_kills_its_workers_is_given_up(sqlite, ledger_of):
    ledger = ledger_of(sqlite, target=1)
    ledger.enqueue(POINTS[:1])
    for _ in range(ledger_module.MOST_DEATHS + 1):
        (trial,) = draw(ledger)
        assert origin(trial) == 0
        ledger.give_back(died=True)
    (fresh,) = draw(ledger)
    assert origin(fresh) == fresh.number > 0


def test_being_asked_to_stop_is_no_death(sqlite, ledger_of):
    ledger = ledger_of(sqlite, target=1)
    ledger.enqueue(POINTS[:1])
    for _ in range(3 * ledger_module.MOST_DEATHS):
        (trial,) = draw(ledger)
        assert trial.params == POINTS[0]
        ledger.give_back(died=False)
    assert len(draw(ledger)) == 1


def test_only_the_dead_workers_trials_are_queued_again(sqlite, ledger_of, monkeypatch):
    monkeypatch.setattr(ledger_module, "_here", lambda: "here")
    one, other, elsewhere = (ledger_of(sqlite, worker=each) for each in ("here:1", "here:2", "there:1"))
    for ledger in (one, other, elsewhere):
        draw(ledger)
    other.bury(1)
    assert states(one) == [TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING, TrialState.WAITING]


def test_a_grid_has_its_points_and_no_more(sqlite, ledger_of):
    ledger = ledger_of(sqlite, target=10, grid=True)
    ledger.enqueue(POINTS)
    assert len(draw(ledger, 4)) == 2
    assert not ledger.has_more()


def test_points_queued_twice_at_once_are_done_once(sqlite, ledger_of):
    one, other = ledger_of(sqlite, grid=True), ledger_of(sqlite, grid=True, worker="b:1")
    one.enqueue(POINTS)
    for k, point in enumerate(POINTS):  # as a second worker that looked before the first had written
        other.study.enqueue_trial(point, user_attrs={"point": k})
    trials = [*draw(one, 4), *draw(other, 4)]
    assert [trial.number for trial in trials] == [0, 1]
    finish(one, trials)
    assert finished_points(one) == [0, 1]


def test_workers_at_once_neither_double_nor_exceed(url, ledger_of):
    target = 12
    ledger_of(url, target).enqueue([{"x": k / 8} for k in range(8)])

    def work(number):
        ledger, drawn = ledger_of(url, target, worker=f"here:{number}"), []
        while ledger.has_more():
            trials = draw(ledger, 2)
            drawn += [origin(trial) for trial in trials]
            finish(ledger, trials)
        return drawn

    with ThreadPoolExecutor(4) as pool:
        drawn = [number for numbers in pool.map(work, range(4)) for number in numbers]
    ledger = ledger_of(url, target)
    assert ledger.finished() == len(drawn) == len(set(drawn)) == target
    assert finished_points(ledger) == [-1] * 4 + list(range(8))


def test_a_trial_keeps_its_place_when_it_is_queued_again(sqlite, ledger_of):
    """The sampler is seeded by it, so that a continued study draws what an unbroken one does."""
    ledger = ledger_of(sqlite)
    (first,) = draw(ledger)
    ledger.give_back(died=True)
    (again,) = draw(ledger)
    (second,) = draw(ledger)
    assert [trial.number for trial in (first, again, second)] == [0, 1, 2]
    assert [ledger.place(trial) for trial in (first, again, second)] == [0, 0, 1]


def test_a_worker_that_dies_while_it_queues_a_trial_again_does_not_lose_it(sqlite, ledger_of, monkeypatch):
    ledger = ledger_of(sqlite)
    ledger.enqueue(POINTS[:1])
    draw(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_queue_again", lambda *_: None)  # it died between the two
        ledger.give_back(died=True)
    assert states(ledger) == [TrialState.FAIL]
    for _ in range(2):
        ledger.reclaim()
    assert states(ledger) == [TrialState.FAIL, TrialState.WAITING]
    (again,) = draw(ledger)
    assert (origin(again), again.params) == (0, POINTS[0])


def test_what_nobody_needed_is_not_queued_again(sqlite, ledger_of):
    ledger = ledger_of(sqlite, grid=True)
    ledger.enqueue(POINTS)
    ledger.study.enqueue_trial(POINTS[0], user_attrs={"point": 0})  # as a second worker did at the same moment
    assert len(draw(ledger, 4)) == 2
    ledger.reclaim()
    assert states(ledger) == [TrialState.RUNNING, TrialState.RUNNING, TrialState.FAIL]


def test_parameters_that_were_given_in_part_are_drawn_anew(sqlite, ledger_of):
    ledger = ledger_of(sqlite)
    trial = next(ledger.draw(1))  # its worker dies before it asks for the next
    trial.suggest_float("x", 0, 1)
    ledger.give_back(died=True)
    assert ledger.study.get_trials()[1].params == {}
    draw(ledger)
    ledger.give_back(died=True)
    *_, again = ledger.study.get_trials()
    assert again.params == ledger.study.get_trials()[1].params != {}
