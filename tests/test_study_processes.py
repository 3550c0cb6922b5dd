"""Studies in processes of their own: killed with all that they started, and shared on a real PostgreSQL server."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import postgres
import pytest
from commands import few_digits, files, merge, start
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from sqlalchemy import create_engine, inspect, make_url, text
from studies import QUICK, finished, formula, plan_of, shown, study, trials_of

from benchmarks.cli import main
from benchmarks.console import make_console
from benchmarks.training.signals import Interruption
from sweeps import fair, processes
from sweeps.conduct import conduct
from sweeps.confirm import CONFIRMATION
from sweeps.ledger import DEATHS, POINT, WORKER, origin
from sweeps.storage import PSYCOPG, open_storage

WHOLE = ("space=aftkd_blocks", "budget=2", "cohort=2", "heartbeat=1", "train.max_steps=12")


class Study:
    """The command in a process and a session of its own."""

    def __init__(self, *words):
        self.process = start("sweeps.run", merge(QUICK, [*WHOLE, *words]))

    def kill(self):
        """Kill it and all that it started, whose process groups are their own."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                session = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[3])
                if session == self.process.pid:
                    os.kill(int(folder.name), signal.SIGKILL)
            except (OSError, ProcessLookupError):
                continue  # it has ended meanwhile
        self.process.communicate()

    def end(self):
        """Its exit status, and what it said."""
        out, _ = self.process.communicate(timeout=600)
        return self.process.returncode, out


def wait_until(process, ready):
    """Until `ready`, while the process runs."""
    while not ready():
        assert process.process.poll() is None, process.end()
        time.sleep(0.05)


def running(url):
    try:
        return [trial for trial in trials_of(url) if trial.state == TrialState.RUNNING]
    except Exception:  # there is no study yet
        return []


def check_whole(url, number):
    """As many trials as were asked for, none of them twice, the defaults among them."""
    trials = finished(url)
    assert len(trials) == len({origin(trial) for trial in trials}) == number
    assert [trial.user_attrs.get(POINT) for trial in trials].count(0) == 1
    assert len({str(sorted(trial.params.items())) for trial in trials}) == number
    assert not running(url)
    return trials


def test_workers_that_are_just_starting_are_stopped_by_ctrl_c():
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(20,), daemon=True)
    processes.start(worker)
    interruption = Interruption()
    interruption.signum = signal.SIGINT
    processes._watch([worker], lambda pid: None, interruption, make_console())
    assert worker.exitcode == -signal.SIGTERM


@pytest.mark.slow
def test_a_killed_study_loses_and_doubles_no_trial(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    words = ["workers=2", "trials=6", f"output={tmp_path}"]
    killed = {}

    def in_training():
        """Whether one that was not killed yet has reported an epoch."""
        return any(trial.intermediate_values for trial in running(url) if trial.number not in killed)

    for _ in range(2):
        process = Study(*words)
        wait_until(process, in_training)
        process.kill()
        killed |= {trial.number: trial for trial in running(url)}
    assert len(killed) >= 2
    status, said = Study(*words).end()
    assert status == 0, said
    trials = check_whole(url, 6)
    again = {origin(trial): trial for trial in trials}
    for trial in killed.values():
        assert again[origin(trial)].params == trial.params
        assert 1 <= again[origin(trial)].user_attrs[DEATHS] <= 2
    assert Study(*words).end()[0] == 0
    assert finished(url) == trials


@pytest.mark.slow
def test_a_study_killed_in_its_confirmation_confirms_every_seed_once(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    words = ["trials=2", "confirm=3", f"output={tmp_path}"]

    def confirmation():
        names = optuna.get_all_study_names(open_storage(url)) if (tmp_path / "studies.db").exists() else []
        name = next((name for name in names if CONFIRMATION in name), None)
        return optuna.load_study(study_name=name, storage=open_storage(url)).trials if name else []

    process = Study(*words)
    wait_until(process, lambda: any(trial.state == TrialState.COMPLETE for trial in confirmation()))
    process.kill()
    before = {t.params["seed"]: t.value for t in confirmation() if t.state == TrialState.COMPLETE}
    assert Study(*words).end()[0] == 0
    after = [trial for trial in confirmation() if trial.state == TrialState.COMPLETE]
    assert sorted(trial.params["seed"] for trial in after) == [1, 2, 3]
    assert before.items() <= {trial.params["seed"]: trial.value for trial in after}.items()
    check_whole(url, 2)


@pytest.mark.slow
def test_workers_that_fail_in_the_confirmation_end_the_study_with_status_1(tmp_path):
    words = ["trials=2", f"output={tmp_path}", "workers=2"]
    line = merge(QUICK, [*WHOLE, *words])
    with formula(lambda variant, seed: 50 + variant.method.degree):  # so that the best is not the defaults
        assert study(*merge(line, ["workers=1", "confirm=0"])) == 0
    runs = plan_of(*line).folder / "resnet8_resnet8"
    runs.mkdir()
    (runs / "default").write_text("in the place of the confirmation's runs")
    status, said = Study(*words).end()
    assert status == 1, said
    assert "lacks seed 1" in said
    (runs / "default").unlink()
    status, said = Study(*words).end()
    assert status == 0, said
    assert "on fresh seeds: " in said


# --- PostgreSQL


def engine_of(url, **settings):
    """A database as it is, beside Optuna."""
    return create_engine(make_url(url).set(drivername=PSYCOPG), **settings)


@pytest.fixture
def database(postgresql):
    """The URL of an empty database."""
    name = f"study_{time.monotonic_ns()}"
    engine = engine_of(postgresql, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    engine.dispose()
    return f"{postgresql.rsplit('/', 1)[0]}/{name}"


def check_secret(folder, said):
    """The password stands nowhere."""
    assert postgres.PASSWORD not in said
    for name in files(folder):
        assert postgres.PASSWORD.encode() not in (folder / name).read_bytes(), name


def test_workers_share_a_study_on_postgresql_and_its_password_is_shown_nowhere(database, tmp_path, capsys):
    words = [*merge(QUICK, ["trials=7", "cohort=2", "tracking.mode=offline"]), "space=aftkd_blocks"]
    words += [f"storage={database}", f"output={tmp_path}"]
    with few_digits(), formula(lambda variant, seed: 50 + variant.method.degree):
        plan = plan_of(*words)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: conduct(plan, make_console()), range(2)))
        where = [f"study={plan.name}", f"storage={database}", f"output={tmp_path}"]
        assert shown(*where, f"export={tmp_path}/best.yaml") == 0
        assert study(*merge(words, ["budget=2", f"study={plan.name}"])) == 2
        assert study(*merge(words, [f"storage={database}_none"])) == 2
    check_whole(database, 7)
    said = capsys.readouterr()
    assert "kd:***@127.0.0.1" in said.out
    assert "kd:***@127.0.0.1" in said.err
    check_secret(tmp_path, said.out + said.err)


def test_who_looks_at_an_empty_database_leaves_it_empty(database, tmp_path, capsys):
    assert shown("study=mine", f"storage={database}", f"output={tmp_path}") == 2
    assert "there is no study yet" in capsys.readouterr().err
    assert not inspect(engine_of(database)).get_table_names()


def test_what_postgresql_forbids_is_named(database, tmp_path, capsys):
    """Optuna's own words are a guess at invalid data."""
    open_storage(database)  # makes the tables
    with engine_of(database).begin() as connection:
        connection.execute(text("create role guest login password 'guest-secret'"))
    url = database.replace(f"{postgres.USER}:{postgres.PASSWORD}", "guest:guest-secret")
    assert study(*QUICK, "space=kd", f"storage={url}", f"output={tmp_path}") == 2
    said = capsys.readouterr().err
    assert "permission denied for table" in said
    assert "guest-secret" not in said


@pytest.mark.slow
def test_two_processes_share_a_study_on_postgresql(database, tmp_path):
    words = ["trials=8", "tracking.mode=offline", f"storage={database}", f"output={tmp_path}"]
    first = Study(*words)
    wait_until(first, lambda: running(database))
    second = Study(*words)
    said = ""
    for process in (first, second):
        status, out = process.end()
        assert status == 0, out
        said += out
    trials = check_whole(database, 8)
    assert len({trial.user_attrs[WORKER] for trial in trials}) == 2
    check_secret(tmp_path, said)


# --- Optuna's proxy


@pytest.fixture
def proxy():
    """The URL of a proxy in front of a storage, and the class of that, to be broken."""
    pytest.importorskip("grpc")
    from optuna.storages._grpc.server import make_server

    port = postgres.free_port()
    server = make_server(InMemoryStorage(), "127.0.0.1", port)
    server.start()
    yield f"grpc://127.0.0.1:{port}", InMemoryStorage
    server.stop(None).wait()


def test_a_proxy_whose_database_is_gone_is_named_and_not_taken_for_damaged(proxy, tmp_path, monkeypatch, capsys):
    url, behind = proxy
    where = [f"storage={url}", f"output={tmp_path}"]
    words = [*merge(QUICK, ["trials=1", "budget=2"]), *where]
    with few_digits(), formula(lambda variant, seed: 50.0):
        assert study(*words, "space=kd", "study=mine") == 0
    capsys.readouterr()

    def fail(*arguments, **settings):
        raise RuntimeError("the database is gone")

    def check(status):
        said = capsys.readouterr().err.splitlines()
        assert (status, said[0]) == (
            1,
            f"failed: storage={url}: Exception calling application: the database is gone",
        )

    monkeypatch.setattr(behind, "get_all_trials", fail)
    check(study(*words, "space=kd", "study=mine"))
    check(shown("study=mine", *where))
    check(main(fair.COMMAND, ["methods=[kd,at]", *words]))
    monkeypatch.setattr(behind, "get_all_studies", fail)
    check(shown("list", *where))
