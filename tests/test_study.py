"""Whole studies: honest, counted, pruned, tracked, interrupted and continued, confirmed and shown."""

import contextlib
import dataclasses
import json
import os
import shlex
import signal
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch
from commands import at_step, few_digits, merge, poison_test_images, run
from light import assert_light
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.storages import JournalStorage, RDBStorage
from optuna.trial import TrialState, create_trial
from PIL import Image
from scipy import stats
from small_cifar100 import Copy, png
from sqlalchemy.exc import OperationalError
from studies import QUICK, finished, formula, plan_of, shown, study, trials_of

from analysis.logs import load
from benchmarks.cli import compose_config, main
from benchmarks.console import make_console
from benchmarks.data import EvaluationBatches, cifar100
from benchmarks.errors import Interrupted, RunFailed, UserError
from benchmarks.files import read_record
from benchmarks.training.signals import Interruption
from sweeps import fair, findings, objective, plots, processes, show
from sweeps import study as study_module
from sweeps.conduct import conduct
from sweeps.confirm import Gain
from sweeps.ledger import POINT, Ledger, origin, worker_name
from sweeps.storage import open_storage
from sweeps.worker import labour, open_confirmation

NAME, TRIALS, BUDGET = "tried", 4, 3
STUDY = (*merge(QUICK, ["confirm=0"]), "space=aftkd", f"study={NAME}", f"trials={TRIALS}", f"budget={BUDGET}")


def storage(folder):
    return f"sqlite:///{folder}/studies.db"


# --- one study, trained and tracked, of digits whose test part nobody can load


class PruneOdd(BasePruner):
    """Ends trials of odd numbers as soon as they are asked for."""

    def prune(self, study, trial):
        return trial.number % 2 == 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        poison_test_images(patch)
        patch.setattr(study_module, "make_pruner", lambda plan: PruneOdd())
        assert study(*merge(STUDY, ["tracking.mode=offline"]), f"output={folder}") == 0
    return folder


@pytest.fixture
def found(made):
    return findings.find(storage(made), NAME)


def of_a_run(words):
    """Those that `benchmarks.run` knows, too."""
    return [word for word in words if not word.startswith("confirm=")]


def results(folder, trial):
    """Results of a trial's run under the study's seed: one, or none."""
    runs = (folder / NAME / "resnet8_resnet8" / f"trial-{origin(trial)}").rglob("result.json")
    return [record for record in map(read_record, runs) if record["config"]["seed"] == 0]


def test_a_trial_is_worth_its_runs_last_validation_score(made, found):
    complete = found.of(TrialState.COMPLETE)
    assert complete
    for trial in complete:
        (result,) = results(made, trial)
        scores = [row["val/top1"] for row in result["history"]]
        assert trial.value == scores[-1] == result["summary"]["val/top1_last"]
        assert list(trial.intermediate_values.values()) == scores
        assert not any(key.startswith("test/") for row in result["history"] for key in row)


def test_pruned_trials_are_recorded_as_such_and_their_training_ended(made, found):
    pruned = found.of(TrialState.PRUNED)
    assert [trial.number for trial in pruned] == [1, 3]
    assert [trial.number for trial in found.of(TrialState.COMPLETE)] == [0, 2]
    for trial in pruned:
        assert list(trial.intermediate_values) == [1]  # of three epochs
        assert results(made, trial) == []


def test_hyperband_ends_bad_trials_early_and_lets_the_good_ones_go_on():
    plan = plan_of(*merge(STUDY, ["budget=9"]))
    study = optuna.create_study(direction="maximize", pruner=study_module.make_pruner(plan), study_name="h")

    def curve(trial):
        """Scores that part early: later trials are better up to the last."""
        for epoch in range(1, 10):
            trial.report(quality[trial.number] * epoch, epoch)
            if epoch < 9 and trial.should_prune():  # as studies ask
                raise optuna.TrialPruned
        return quality[trial.number] * 9

    quality = np.random.default_rng(0).permutation(30).tolist()
    study.optimize(curve, n_trials=30)
    ended = [len(trial.intermediate_values) for trial in study.trials if trial.state == TrialState.PRUNED]
    assert len(ended) > 10
    assert set(ended) == {1, 3}
    assert study.best_value == 9 * 29


def test_the_defaults_are_the_first_trial_and_the_best_is_no_worse(found):
    assert found.default.number == 0
    assert found.default.user_attrs[POINT] == 0
    assert found.best.value >= found.default.value
    assert len({origin(trial) for trial in found.trials}) == len(found.trials) == TRIALS


def test_every_trial_is_a_run_of_the_studys_group_in_the_logs(made, found):
    logs = load([str(made)])
    assert set(logs.runs["group"]) == {NAME}
    runs = logs.runs[logs.runs["seed"] == 0].reset_index().set_index("label")
    assert sorted(runs.index) == [f"trial-{trial.number}" for trial in found.trials]
    for trial in found.trials:
        logged = runs.loc[f"trial-{trial.number}"]
        assert (logged["state"] == "complete") == (trial.state == TrialState.COMPLETE)
        history = logs.history[logs.history["run_id"] == logged["run_id"]]
        assert dict(zip(history["epoch"], history["val/top1"], strict=True)) == trial.intermediate_values


def test_trials_stand_at_whole_numbers(found):
    first_two = findings.Findings(found.study, None)
    first_two.__dict__["trials"] = found.trials[:2]
    assert all(tick.is_integer() for tick in plots.history(first_two).axes[0].get_xticks().tolist())


def test_show_tells_draws_and_exports_what_can_be_run(made, found, tmp_path, capsys):
    preset, figures = tmp_path / "tuned.yaml", tmp_path / "figures"
    assert shown(f"study={NAME}", f"output={made}", f"out={figures}", f"export={preset}") == 0
    said = capsys.readouterr().out
    assert f"{TRIALS} trials finished: {len(found.of(TrialState.COMPLETE))} complete" in said
    assert "(defaults)" in said
    names = ("blocks", "curves", "history", "slices")
    assert sorted(path.name for path in figures.iterdir()) == [
        f"{n}.{kind}" for n in names for kind in ("pdf", "png")
    ]
    for name in names:
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF-")
        with Image.open(figures / f"{name}.png") as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 10  # something is drawn

    words = of_a_run(QUICK)
    with few_digits():
        assert run("method=aftkd", f"preset={preset}", *words, "train.epochs=1", f"output={tmp_path}/runs") == 0
    (result,) = (tmp_path / "runs").rglob("result.json")
    trained = read_record(result)["config"]["method"]
    best = results(made, found.best)[0]["config"]["method"]
    assert trained | {"label": ""} == best | {"label": ""}


@pytest.mark.slow
def test_the_best_trials_command_reaches_its_score_again(made, found, tmp_path, capsys):
    assert shown(f"study={NAME}", f"output={made}", f"out={tmp_path}/figures") == 0
    line = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("  python -m benchmarks.run")
    )
    words = shlex.split(line)[3:]
    with few_digits():
        assert run(*words, f"output={tmp_path}/again", "tracking.mode=disabled") == 0
    (result,) = (tmp_path / "again").rglob("result.json")
    assert read_record(result)["summary"]["val/top1_last"] == found.best.value


# --- the test set


def numbered(root):
    """A CIFAR-100 whose training images are told apart by any of their pixels; its test file is unreadable."""
    copy = Copy()
    for number in range(len(copy.pngs["train"])):
        copy.pngs["train"][number] = png(np.full((32, 32, 3), number, np.uint8))
    copy.parquet(root)
    (root / "test.parquet").write_bytes(b"no parquet file")


def numbers(images):
    """Of the images in a batch, by the pixel in the middle, which no crop loses."""
    mean, std = cifar100.MEAN[0], cifar100.STD[0]
    return ((images[:, 0, 16, 16] * std + mean) * 255).round().int().tolist()


@pytest.fixture
def looked_at(monkeypatch):
    """Which images a teacher and students were trained on, and which anybody was evaluated on."""
    from benchmarks.training import launcher

    seen = {"teacher": set(), "students": set(), "evaluated": set()}
    learn, batches = launcher.learn, EvaluationBatches.__iter__

    def watched(members, teaching, views, *rest):
        who = "teacher" if teaching.network is None else "students"
        seen[who].update(number for batch in views.values() for number in numbers(batch.images))
        return learn(members, teaching, views, *rest)

    def evaluate(self):
        for batch in batches(self):
            seen["evaluated"].update(numbers(batch.images))
            yield batch

    monkeypatch.setattr(launcher, "learn", watched)
    monkeypatch.setattr(EvaluationBatches, "__iter__", evaluate)
    return seen


def test_trials_and_their_teacher_see_the_train_part_alone(tmp_path, looked_at, capsys):
    numbered(tmp_path / "data")
    place = [
        "data=cifar100",
        f"data.root={tmp_path}/data",
        f"data.cache={tmp_path}/cache",
        f"output={tmp_path}/out",
    ]
    base = [word for word in merge(QUICK, place) if not word.startswith("train.max_steps")]
    honest = ["space=kd", "data.validation=0.5", "trials=2", "budget=1", "confirm=1", "train.lr=0.001"]
    assert study(*merge(base, honest)) == 0
    assert len(finished(f"sqlite:///{tmp_path}/out/studies.db")) == 2
    assert looked_at["teacher"] == looked_at["students"]
    assert len(looked_at["teacher"]) == len(looked_at["evaluated"]) == 100
    assert not looked_at["teacher"] & looked_at["evaluated"]
    assert not list((tmp_path / "cache").glob("*test*"))
    capsys.readouterr()

    assert run(*of_a_run(base), "method=kd", "train.epochs=1") == 2
    assert "test.parquet" in capsys.readouterr().err


# --- stopped and continued


def test_sigterm_stops_a_study_and_the_same_command_continues_it(tmp_path, capsys):
    line = [*merge(STUDY, ["trials=3", "cohort=2", "budget=2"]), f"output={tmp_path}"]

    def stop(display):
        if display.what != "teacher resnet8":
            os.kill(os.getpid(), signal.SIGTERM)

    with few_digits():
        with at_step(4, stop):
            assert study(*line) == 143
        before = trials_of(storage(tmp_path))
        assert [trial.state for trial in before] == [TrialState.FAIL] * 2 + [TrialState.WAITING] * 2
        assert study(*line) == 0
    after = finished(storage(tmp_path))
    assert len({origin(trial) for trial in after}) == len(after) == 3
    by_origin = {origin(trial): trial.params for trial in after}
    assert [by_origin[trial.number] for trial in before[:2]] == [trial.params for trial in before[:2]]
    assert "died" not in json.dumps([trial.user_attrs for trial in after])
    capsys.readouterr()
    assert study(*line) == 0
    assert "complete already: 3 finished trials" in capsys.readouterr().out


def test_a_signal_ends_the_wait_for_a_run_that_another_process_trains(monkeypatch):
    class Taken:
        """What is to be trained has another process."""

        def __init__(self, *_, **__):
            pass

        def train(self, *_):
            return [SimpleNamespace(taken=True)]

    looks = iter([lambda: signal.raise_signal(signal.SIGTERM), lambda: pytest.fail("it waits on")])
    monkeypatch.setattr(objective, "Distillation", Taken)
    monkeypatch.setattr(objective.time, "sleep", lambda seconds: next(looks)())
    plan = plan_of(*STUDY)
    bench = SimpleNamespace(console=None)
    with Interruption(), pytest.raises(Interrupted):
        objective.train(plan, 0, [plan.base.variant], bench)


class Away:
    """A storage's method that fails from the second call on, as where its server is gone or its disk full."""

    def __init__(self, method, error):
        self.method, self.error, self.calls = method, error, 0

    def __get__(self, storage, owner):
        return lambda *args, **kwargs: self(storage, *args, **kwargs)

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls > 1:
            raise self.error
        return self.method(*args, **kwargs)


def lost_database():
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = OperationalError(
        "server closed the connection", None, Exception("server closed the connection")
    )
    return error


def lost_proxy():
    grpc = pytest.importorskip("grpc")
    return type("Lost", (grpc.RpcError,), {"details": lambda self: "failed to connect"})()


@pytest.mark.parametrize(
    ("method", "kind", "error", "said"),
    [
        ("set_trial_intermediate_value", "sqlite", lost_database, "server closed the connection"),
        ("set_trial_state_values", "sqlite", lost_proxy, "failed to connect"),
        (
            "set_trial_user_attr",
            "journal",
            lambda: OSError(28, "No space left on device"),
            "No space left on device",
        ),
    ],
    ids=["in a report", "when it is told", "in a signature"],
)
def test_a_storage_that_fails_under_a_study_ends_it_in_a_few_lines(
    method, kind, error, said, tmp_path, monkeypatch, capsys
):
    url = f"{kind}:///{tmp_path}/study"
    words = [
        *merge(STUDY, ["trials=2", "cohort=1", "budget=2", "heartbeat=0.2"]),
        f"output={tmp_path}",
        f"storage={url}",
    ]
    with few_digits():
        with monkeypatch.context() as patch:
            owner = RDBStorage if kind == "sqlite" else JournalStorage
            patch.setattr(owner, method, Away(getattr(owner, method), error()))
            assert study(*words) == 1
        ended = capsys.readouterr().err
        assert f"failed: storage={url}: " in ended
        assert said in ended
        assert "the same command continues the study" in ended
        assert len(ended.splitlines()) <= 4
        assert study(*words) == 0
    assert len(finished(url)) == 2


# --- what is searched and confirmed, by a formula instead of training


@pytest.mark.parametrize("confirming", [False, True], ids=["a trial", "a confirmation"])
def test_a_worker_taken_for_dead_leaves_its_work_to_the_other(confirming, tmp_path, capsys):
    words = merge(QUICK, ["space=aftkd_blocks", "study=lost", f"confirm={int(confirming)}", "trials=2", "cohort=1"])
    taken = []

    def score(variant, seed):
        if not taken and (seed > 0) == confirming:  # another worker finds this one silent
            (name,) = (
                name for name in optuna.get_all_study_names(storage(tmp_path)) if (name != "lost") == confirming
            )
            other = optuna.load_study(study_name=name, storage=storage(tmp_path))
            (held,) = other.get_trials(states=(TrialState.RUNNING,))
            taken.append(held.number)
            judge = Ledger(other, 2, 0.0, grid=False)
            judge.reclaim()
            judge.reclaim()
            assert other.trials[held.number].state == TrialState.FAIL
        return 50.0

    with few_digits(), formula(score):
        assert study(*words, f"output={tmp_path}") == 0
    shown = capsys.readouterr().out
    assert f"trial {taken[0]} went to another worker" in shown
    assert shown.count("fresh seed 1:") == confirming
    after = finished(storage(tmp_path))
    assert sorted(origin(trial) for trial in after)[0] == 0
    assert len({origin(trial) for trial in after}) == len(after) == 2


def by_degree(variant, seed):
    """A score that grows with AFT-KD's degree, and faster with some seeds."""
    return 50 + (20 + seed % 3) * variant.method.degree


BLOCKS = (*QUICK, "space=aftkd_blocks", "study=blocks")


@pytest.mark.slow
def test_trials_added_later_are_those_of_a_larger_study(tmp_path):
    words = [*merge(BLOCKS, ["confirm=0", "cohort=1"])]
    with few_digits(), formula(by_degree):
        for name, sizes in (("once", [7]), ("twice", [5, 7])):
            for size in sizes:
                assert study(*words, f"trials={size}", f"output={tmp_path}/{name}") == 0
    once, twice = (
        [(trial.params, trial.value) for trial in finished(storage(tmp_path / name))] for name in ("once", "twice")
    )
    assert len(once) == 7
    assert once == twice


def test_the_best_is_trained_again_beside_the_defaults_on_fresh_seeds(tmp_path, capsys):
    with few_digits(), formula(by_degree) as trained:
        assert study(*merge(BLOCKS, ["seeds=[0,4]", "confirm=3", "trials=6"]), f"output={tmp_path}") == 0
    found = findings.find(storage(tmp_path), "blocks")
    best, default = found.best, found.default
    assert best.params["degree"] > default.params["degree"] == 0.5
    assert best.value == pytest.approx(50 + 20.5 * best.params["degree"])
    assert best.user_attrs["scores"] == pytest.approx([50 + rate * best.params["degree"] for rate in (20, 21)])
    assert trained[-3:] == [(seed, ["default", f"trial-{best.number}"]) for seed in (5, 6, 7)]
    assert found.gain.theirs == {5: 61, 6: 60, 7: 60.5}
    assert found.gain.differences == pytest.approx([rate * (best.params["degree"] - 0.5) for rate in (22, 20, 21)])
    assert found.gain.better
    assert "better than the defaults" in capsys.readouterr().out


def workers_that_die(plan, bury, console):
    """Workers one after the other; one that fails has said so and ends, as one in a process of its own."""
    for _ in range(plan.search.workers):
        with contextlib.suppress(RunFailed):
            labour(plan, open_storage(plan.search.storage), console)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_confirmation_that_fails_is_no_success(workers, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "run", workers_that_die)
    words = [*merge(BLOCKS, ["confirm=2", "trials=2", f"workers={workers}"]), f"output={tmp_path}"]
    with few_digits():
        with formula(lambda variant, seed: None if seed == 2 else 50.0):  # which diverges
            endings = [(study(*words), capsys.readouterr()) for _ in range(6 // workers)]
        assert {status for status, _ in endings} == {1}
        assert "on fresh seeds: " not in "".join(said.out for _, said in endings)
        if workers > 1:
            assert "lacks seed 2; the same command continues" in endings[0][1].err
        assert "lacks seed 2 and was given up after 4 failures" in endings[-1][1].err
        assert study(*merge(words, ["confirm=0"])) == 0
    assert len(finished(storage(tmp_path))) == 2


def test_a_worker_killed_in_the_confirmation_leaves_its_seed_in_the_queue(tmp_path, monkeypatch, capsys):
    words = [*merge(BLOCKS, ["confirm=2", "trials=2", "workers=2"]), f"output={tmp_path}"]
    before, after = [], []

    def run(plan, bury, console):
        """Work to the end of the search; then a process draws a fresh seed and is killed."""
        opened = open_storage(plan.search.storage)
        labour(dataclasses.replace(plan, search=dataclasses.replace(plan.search, confirm=0)), opened, console)
        search = findings.find(storage(tmp_path), "blocks")
        ledger = open_confirmation(plan, opened, search.best)
        ledger.worker = worker_name(4321)
        list(ledger.draw(1))
        before.append(ledger.running())
        bury(4321)
        after.append(ledger.running())

    with few_digits(), formula(by_degree):
        with monkeypatch.context() as patch:
            patch.setattr(processes, "run", run)
            assert study(*words) == 1
            assert "lacks seed 1, 2; the same command continues" in capsys.readouterr().err
        assert (before, after) == ([1], [0])
        assert study(*merge(words, ["workers=1"])) == 0  # at once, not when a signature is stale
    assert findings.find(storage(tmp_path), "blocks").gain is not None


def test_workers_that_die_in_a_search_leave_it_unfinished(tmp_path, monkeypatch, capsys):
    def score(variant, seed):
        raise RunFailed("out of memory")

    monkeypatch.setattr(processes, "run", workers_that_die)
    with few_digits(), formula(score):
        assert study(*merge(BLOCKS, ["trials=3", "workers=2"]), f"output={tmp_path}") == 1
    assert "0 of 3 trials were finished; the same command continues" in capsys.readouterr().err


@pytest.mark.slow
def test_the_best_of_noise_is_not_called_better(tmp_path, capsys):
    noise = np.random.default_rng(0)
    with few_digits(), formula(lambda variant, seed: float(noise.normal(60, 5))):
        assert study(*merge(BLOCKS, ["confirm=3", "trials=6"]), f"output={tmp_path}") == 0
    assert "not shown to be better than the defaults" in capsys.readouterr().out


def test_defaults_that_are_the_best_are_not_compared_with_themselves(tmp_path, capsys):
    with few_digits(), formula(lambda variant, seed: 60.0):  # of equals the first, the defaults
        assert study(*merge(BLOCKS, ["confirm=1", "trials=2"]), f"output={tmp_path}") == 0
    printed = capsys.readouterr().out
    assert "no trial is better than the defaults" in printed
    assert "fresh seed 1: defaults 60.00 %" in printed
    assert "shown to be better" not in printed


def test_a_gains_interval_is_that_of_a_paired_t_test():
    tuned, default = [70.1, 71.5, 69.9, 70.8], [69.5, 70.9, 70.0, 69.7]
    gain, oracle = Gain(dict(enumerate(tuned)), dict(enumerate(default))), stats.ttest_rel(tuned, default)
    interval = oracle.confidence_interval(0.95)
    assert gain.mean - gain.half_width == pytest.approx(interval.low)
    assert gain.mean + gain.half_width == pytest.approx(interval.high)
    assert gain.better == (oracle.pvalue < 0.05)


def test_a_gain_is_paired_by_seed_whatever_the_order_and_however_many_the_others_have():
    gain = Gain({3: 73.0, 1: 71.0, 2: 72.0, 9: 99.0}, {1: 70.0, 4: 10.0, 3: 70.0, 2: 70.0})
    assert gain.seeds == [1, 2, 3]
    assert gain.differences.tolist() == [1, 2, 3]
    assert str(gain) == str(Gain({1: 71.0, 2: 72.0, 3: 73.0}, {1: 70.0, 2: 70.0, 3: 70.0}))


def test_two_seeds_give_a_gain_no_interval():
    two, three = (
        Gain({1: 70.0, 2: 71.0}, {1: 60.0, 2: 60.5}),
        Gain(dict.fromkeys("abc", 70.0), {"a": 60.0, "b": 61, "c": 62}),
    )
    assert two.difference == "+10.25"
    assert "no test below 3 seeds" in str(two)
    assert not two.better
    assert "(95 %, n = 3)" in three.difference
    assert "better than the defaults" in str(three)


def test_seeds_that_differ_by_the_same_give_a_gain_no_interval():
    """One image of 360 each: in floats these differences are not quite equal."""
    default = {seed: images / 360 * 100 for seed, images in enumerate((350, 352, 345))}
    tuned = {seed: (images + 1) / 360 * 100 for seed, images in enumerate((350, 352, 345))}
    gain = Gain(tuned, default)
    assert gain.difference == "+0.28"
    assert not gain.better
    assert "no test where all seeds differ by the same" in str(gain)


def test_a_loss_has_the_minus_sign_of_the_tables():
    assert Gain({1: 70.0, 2: 71.0}, {1: 71.16, 2: 72.16}).difference.startswith("−1.16")


@pytest.mark.slow
def test_a_trial_that_diverges_counts_and_is_never_the_best(tmp_path, capsys):
    def score(variant, seed):
        return None if variant.method.degree > 0.5 else 60 + variant.method.degree

    with few_digits(), formula(score):
        assert study(*merge(BLOCKS, ["confirm=0", "trials=8"]), f"output={tmp_path}") == 0
    trials = finished(storage(tmp_path))
    diverged = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert len(trials) == 8
    assert diverged
    assert all("not finite" in trial.user_attrs["failure"] for trial in diverged)
    assert {trial.number for trial in diverged} == {t.number for t in trials if t.params["degree"] > 0.5}
    assert "not finite" in capsys.readouterr().out


def test_a_plan_has_the_first_seed_its_share_of_the_threads_and_seeds_enough_for_its_pruner(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    words = [word for word in QUICK if not word.startswith("train.threads")]
    words += ["train.device=cpu", "space=kd", "workers=2", "pruner=wilcoxon"]
    plan = plan_of(*words, "seeds=[3,5,9,4]")
    assert (plan.run.seed, plan.fresh_seeds, plan.run.train.threads) == (3, [10], 3)
    with pytest.raises(UserError, match="fewer than 4"):
        plan_of(*words, "seeds=[3,5,9]")


@pytest.mark.slow
def test_wilcoxons_pruner_ends_a_trial_after_some_seeds(tmp_path):
    seeds = "seeds=[0,1,2,3,4,5,6,7]"
    with few_digits(), formula(lambda variant, seed: by_degree(variant, seed) + 0.01 * seed) as trained:
        words = merge(BLOCKS, ["pruner=wilcoxon", seeds, "confirm=0", "trials=8", "cohort=1"])
        assert study(*words, f"output={tmp_path}") == 0
    trials = finished(storage(tmp_path))
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        runs = [seed for seed, labels in trained if labels == [f"trial-{trial.number}"]]
        assert runs == list(range(len(trial.user_attrs["scores"])))
        assert 1 < len(runs) < 8


def tried(count):
    """The findings of a study of so many complete trials, in which one of two parameters decides."""
    invented = optuna.create_study(direction="maximize")
    generator = np.random.default_rng(0)
    ranges = {"degree": FloatDistribution(0, 1), "weights.kd": FloatDistribution(0, 1)}
    for _ in range(count):
        point = {name: float(generator.random()) for name in ranges}
        invented.add_trial(create_trial(params=point, distributions=ranges, value=60 + point["degree"]))
    return findings.Findings(invented, None)


def test_studies_with_long_names_keep_apart(tmp_path):
    """What they train, and what is drawn of them."""
    names = [f"{'a study with much to say about itself, ' * 2}seed {seed}" for seed in (0, 1)]
    with few_digits(), formula(lambda variant, seed: 60.0):
        for name in names:
            words = ["space=kd", "trials=1", "confirm=0", f"study='{name}'", f"output={tmp_path}"]
            assert study(*merge(QUICK, words)) == 0
            assert shown(f"study='{name}'", f"output={tmp_path}") == 0
    folders = [plan_of(*QUICK, "space=kd", f"study='{name}'", f"output={tmp_path}").folder for name in names]
    assert len(set(folders)) == 2
    assert all((folder / "logs").is_dir() and (folder / "figures" / "history.png").exists() for folder in folders)


def test_figures_are_the_same_bytes_each_time_whatever_a_study_is_called(tmp_path, monkeypatch):
    invented = optuna.create_study(direction="maximize", study_name=r"x$\b$")
    invented.set_user_attr("settings", {"grid": True, "pruner": "none"})
    invented.add_trials(tried(3).trials)
    for when in ("0", "1"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", when)  # matplotlib's clock
        plots.draw_all(findings.Findings(invented, None), tmp_path / when)
    names = sorted(path.name for path in (tmp_path / "0").iterdir())
    assert names == ["history.pdf", "history.png", "slices.pdf", "slices.png"]
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_importances_need_trials_and_say_what_their_deviation_is(monkeypatch, capsys):
    monkeypatch.setattr(findings, "NUM_FORESTS", 2)  # each takes a fifth of a second
    few, enough = tried(findings.LEAST_TRIALS - 1), tried(findings.LEAST_TRIALS)
    console = make_console()
    assert few.importances() == {}
    means = {name: mean for name, (mean, _) in enough.importances().items()}
    assert means["degree"] > 0.8 > means["weights.kd"]

    def said(found):
        show._print_importances(console, found)
        return " ".join(capsys.readouterr().out.split())

    assert f"{findings.LEAST_TRIALS} complete trials" in said(few)
    assert str(findings.LEAST_TRIALS - 1) in said(few)
    told = said(enough)
    assert f"{findings.LEAST_TRIALS} complete trials; ±" in told
    assert f"{findings.NUM_FORESTS} random forests" in told
    assert "pruned" not in told
    enough.study.add_trial(create_trial(state=TrialState.PRUNED))
    assert "1 pruned trial" in said(findings.Findings(enough.study, None))


def test_help_and_mistakes_need_neither_scikit_learn_nor_matplotlib():
    lines = ["from benchmarks.cli import compose_config, main"]
    for module in ("run", "show", "fair"):
        lines += [f"from sweeps.{module} import COMMAND", "assert main(COMMAND, ['help']) == 0"]
        lines += ["assert main(COMMAND, ['storage=sqlite:///nowhere.db', 'trails=2']) == 2"]
    lines += ["assert main(COMMAND, ['methods=[kd]']) == 2"]
    assert_light({"sklearn", "scipy", "matplotlib", "pandas", "wandb"}, *lines)


def table_rows(said):
    """Of the methods in the table that `sweeps.fair` prints."""
    _, table = said.split("behind the first")
    return [line for line in table.splitlines() if line.split()[:1] in (["kd"], ["sp"])]


def test_fair_tunes_every_method_alike_and_compares_on_the_same_seeds(tmp_path, capsys):
    def score(variant, seed):
        of_method = {"kd": 60 + 10 * variant.method.weights["kd"], "sp": 65}[variant.method.name]
        return of_method + seed

    words = [*QUICK, "methods=[kd,sp]", "trials=6", f"output={tmp_path}"]
    with few_digits(), formula(score) as trained:
        assert main(fair.COMMAND, merge(words, ["confirm=2"])) == 0
    said = capsys.readouterr().out
    (path,) = tmp_path.glob("fair-*.json")
    content = json.loads(path.read_text())
    assert set(content) == {"kd", "sp"}
    for method, row in content.items():
        study_of = findings.find(storage(tmp_path), row["study"])
        assert len(study_of.of(TrialState.COMPLETE)) == 6
        assert row["trial"] == study_of.best.number
        assert row["seeds"] == [1, 2]
        assert row["settings"]["method"]["name"] == method
        assert row["searched"] == sorted(study_of.best.params)
        assert f"searched of {method}: {', '.join(row['searched'])}" in said
    best_weight = findings.find(storage(tmp_path), content["kd"]["study"]).best.params["weights.kd"]
    assert content["kd"]["tuned"] == pytest.approx([60 + 10 * best_weight + seed for seed in (1, 2)])
    assert content["sp"]["tuned"] == content["sp"]["default"] == [66, 67]
    assert sum(seed > 0 for seed, _ in trained) == 4
    rows = table_rows(said)
    assert len(rows) == 2
    assert ("kd" if sum(content["kd"]["tuned"]) > 66 + 67 else "sp") == rows[0].split()[0]


def test_fair_searches_aftkd_as_it_does_the_others_and_in_a_study_of_its_own():
    words = merge(QUICK, ["methods=[aftkd,kd]"])
    plans = {method: fair._plan(*compose_config(fair.COMMAND, words), method) for method in ("aftkd", "kd")}
    parameters = {method: set(plan.points[0]) for method, plan in plans.items()}
    assert parameters["kd"] < parameters["aftkd"]
    assert parameters["aftkd"] >= {"content", "degree", "p", "block_size.1", "center"}
    assert not [name for name in parameters["aftkd"] if name.startswith("loss.")]
    assert plans["aftkd"].name != plan_of(*QUICK, "space=aftkd").name


COMPARISON = (*QUICK, "methods=[kd,sp]", "trials=2")


def test_fair_compares_on_the_seeds_that_were_asked_for(tmp_path, capsys):
    """A study that was confirmed on more seeds before is compared on those of the others."""
    words = merge(COMPARISON, [f"output={tmp_path}"])
    alone = [word for word in words if not word.startswith("methods=")]
    with few_digits(), formula(lambda variant, seed: 60 + 10 * seed**2 + (variant.method.name == "kd")):
        assert study(*merge(alone, ["space=kd", "confirm=4"])) == 0
        capsys.readouterr()
        assert main(fair.COMMAND, merge(words, ["confirm=2"])) == 0
    said = capsys.readouterr().out
    (path,) = tmp_path.glob("fair-*.json")
    rows = json.loads(path.read_text())
    assert [row["seeds"] for row in rows.values()] == [[1, 2], [1, 2]]
    assert rows["kd"]["tuned"] == [71, 101]
    assert rows["sp"]["tuned"] == [70, 100]
    _, behind = table_rows(said)
    assert behind.rstrip().endswith("−1.00")  # two seeds have no interval
    assert "without intervals below 3 seeds" in said
    with few_digits(), formula(lambda variant, seed: 60 + seed**2 * (1 + (variant.method.name == "kd"))):
        assert main(fair.COMMAND, merge(words, ["confirm=3", f"output={tmp_path}/of-three"])) == 0
    assert "with 95 % intervals by Student's t, each by itself" in " ".join(capsys.readouterr().out.split())
    assert all("the defaults are best" in row for row in table_rows(said))


def test_fair_overwrites_no_other_comparison(tmp_path):
    """Of other methods, or on another budget, which could not be made again: its studies have gone on since."""
    words = merge(COMPARISON, [f"output={tmp_path}", "confirm=1"])
    kept = {}
    with few_digits(), formula(lambda variant, seed: 60.0 + seed):
        for more in (["methods=[kd,at]"], ["methods=[kd,sp]"], ["methods=[sp,kd]", "trials=3"]):
            assert main(fair.COMMAND, merge(words, more)) == 0
            for path in set(tmp_path.glob("fair-*.json")) - set(kept):
                kept[path] = json.loads(path.read_text())
        assert main(fair.COMMAND, merge(words, ["methods=[kd,sp]", "trials=3"])) == 0  # the last one again
    assert [sorted(content) for content in kept.values()] == [["at", "kd"], ["kd", "sp"], ["kd", "sp"]]
    assert {path: json.loads(path.read_text()) for path in tmp_path.glob("fair-*.json")} == kept
    assert all(f"{trials}trials" in path.name for path, trials in zip(kept, (2, 2, 3), strict=True))


def test_fair_tells_a_best_trial_that_gains_nothing_from_the_defaults(tmp_path, capsys):
    def score(variant, seed):
        return 60 + (seed == 0) * 10 * abs(variant.method.weights["kd"] - 1) if variant.method.name == "kd" else 60

    words = merge([*QUICK, "methods=[kd,sp]", "trials=2"], [f"output={tmp_path}", "confirm=2"])
    with few_digits(), formula(score):
        assert main(fair.COMMAND, words) == 0
    content = json.loads(next(tmp_path.glob("fair-*.json")).read_text())
    assert content["kd"]["trial"] != 0
    assert content["kd"]["tuned"] == content["kd"]["default"]
    tuned = {row.split()[0]: "the defaults are best" in row for row in table_rows(capsys.readouterr().out)}
    assert tuned == {"kd": False, "sp": True}


def test_fair_refuses_a_study_that_was_given_more_trials_than_the_others_get(tmp_path, capsys):
    words = merge(COMPARISON, [f"output={tmp_path}", "confirm=1"])
    alone = [word for word in words if not word.startswith("methods=")]
    with few_digits(), formula(lambda variant, seed: 60.0) as trained:
        assert study(*merge(alone, ["space=kd", "trials=4"])) == 0
        before = len(trained)
        assert main(fair.COMMAND, words) == 2
        message = capsys.readouterr().err
        assert "trials=2 is not an equal budget: kd has 4 finished; trials=4 gives all the same" in message
        assert len(trained) == before
        assert main(fair.COMMAND, merge(words, ["trials=4"])) == 0
    assert all(row.split()[1] == "4" for row in table_rows(capsys.readouterr().out))


def confirmed_in_part(plan, console):
    """As where a seed failed, which ends the command else."""
    with contextlib.suppress(RunFailed):
        conduct(plan, console)


def test_fair_says_which_seeds_it_lacks(tmp_path, monkeypatch, capsys):
    """Where another machine went on with a study and has found a better trial meanwhile, say."""
    words = merge(COMPARISON, [f"output={tmp_path}", "confirm=2"])
    with few_digits(), formula(lambda variant, seed: None if seed == 2 else 60.0):
        monkeypatch.setattr(fair, "conduct", confirmed_in_part)
        assert main(fair.COMMAND, words) == 1
    message = capsys.readouterr().err
    assert "is not trained on fresh seed 2; the same command does that" in message
    assert "diverged" not in message
