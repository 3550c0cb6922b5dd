"""Grids trained in several processes and on Ray: shared, killed, interrupted, and the same in the end."""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import random
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
from commands import same, start, without_times

from benchmarks.errors import UserError
from benchmarks.suite.cluster import Cluster, _work
from benchmarks.suite.config import LauncherKind, SuiteConfig
from benchmarks.suite.local import Pool
from benchmarks.suite.states import PROGRESS
from benchmarks.suite.tasks import TEACHER, Outcome


@dataclass(frozen=True)
class Fake:
    """A task that does something simple in the folder that it is given."""

    name: str
    deed: str
    after: str | None = None
    labels: tuple[str, ...] = ("student",)
    run = SimpleNamespace(train=SimpleNamespace(device="cpu"))

    def __call__(self, place):
        return getattr(self, self.deed)(place)

    def meet(self, place):
        """Wait for the other one: both must be there at a time."""
        mine = {"cores": sorted(os.sched_getaffinity(0)), "group": os.getpgrp()}
        (place / f"{self.name}.json").write_text(json.dumps(mine))
        deadline = time.monotonic() + 60
        while len(list(place.glob("*.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return Outcome(taken=[str(len(list(place.glob("*.json"))))])

    def fall(self, place):
        os.kill(os.getpid(), signal.SIGKILL)

    def cancel(self, place):
        """Be told to stop as Ray tells a task."""
        _thread.interrupt_main()
        return Outcome()

    def follow(self, place):
        raise AssertionError("its teacher has failed")

    def without_teacher(self, teacher):
        return replace(self, deed="mourn", labels=(teacher.failures[TEACHER],))

    def mourn(self, place):
        return Outcome(dict.fromkeys(self.labels, "no teacher"))


def test_workers_work_side_by_side_and_fall_alone(tmp_path):
    tasks = [
        Fake("one", "meet"),
        Fake("fallen", "fall", labels=(TEACHER,)),
        Fake("two", "meet"),
        Fake("follower", "follow", after="fallen"),
    ]
    outcomes = {task.name: outcome for task, outcome in Pool(2, tmp_path)(tasks)}
    assert outcomes["one"].taken == outcomes["two"].taken == ["2"]
    assert "signal 9" in outcomes["fallen"].failures[TEACHER]
    assert outcomes["follower"].failures == {outcomes["fallen"].failures[TEACHER]: "no teacher"}
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert os.getpgrp() not in (one["group"], two["group"])  # where Ctrl-C does not reach them
    if len(os.sched_getaffinity(0)) >= 2:
        assert not set(one["cores"]) & set(two["cores"])


# --- whole grids, in processes of their own

LABELS, SEEDS = ("none", "kd", "crd"), (0, 1)
GRID = (
    f"methods=[{','.join(LABELS)}]",
    "pairs=[{teacher: resnet8, student: resnet8}]",
    f"seeds=[{','.join(map(str, SEEDS))}]",
    "data=digits",
    "train.batch_size=16",
    "train.epochs=3",
    "train.max_steps=40",
    "train.threads=1",
    "checkpoint.every_steps=10",
    "tracking.mode=disabled",
)


class Suite:
    """The command in a process and a group of its own."""

    def __init__(self, output, *words):
        self.output = output
        self.process = start("benchmarks.suite", [*GRID, f"output={output}", *words])

    def progress(self):
        """What its cohorts say of themselves, those of earlier processes left out."""
        found = []
        for path in self.output.glob(f"suites/*/resnet8_resnet8*{PROGRESS}"):
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(path.read_text()))
        return [each for each in found if Path(f"/proc/{each['pid']}").exists()]

    def wait_for_steps(self, steps=3, tasks=2):
        """Until so many tasks have done so many steps; gives what they say."""
        while self.process.poll() is None:
            going = [each for each in self.progress() if steps <= each["step"] < each["num_steps"]]
            if len(going) >= tasks:
                return going
            time.sleep(0.1)
        raise AssertionError(f"it has ended: {self.end()}")

    def end(self, timeout=400):
        """Its exit status, and what it said."""
        out, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, out


def results(output):
    """Weights and histories of all runs, by their place."""
    found = {}
    for path in output.glob("resnet8_resnet8/*/*/result.json"):
        state = safetensors.torch.load_file(path.with_name("student.safetensors"))
        content = json.loads(path.read_text())
        found[str(path.parent.relative_to(output))] = (state, without_times(content["history"]))
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of the grid that nothing disturbs."""
    output = tmp_path_factory.mktemp("undisturbed")
    returned, said = Suite(output).end()
    assert returned == 0, said
    return results(output)


def check_equal(output, undisturbed):
    found = results(output)
    assert found.keys() == undisturbed.keys()
    assert len(found) == len(LABELS) * len(SEEDS)
    for place, (state, history) in undisturbed.items():
        assert same(found[place][0], state)
        assert found[place][1] == history
    assert not list(output.rglob("checkpoint-*"))


def check_saved(output):
    """Every run is complete, or has a checkpoint that it goes on from."""
    kept = [path.parent for name in ("checkpoint-*", "result.json") for path in output.rglob(name)]
    assert len(set(kept)) == len(LABELS) * len(SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_moments_and_repeated_it_ends_the_same(workers, undisturbed, tmp_path):
    draw = random.Random(workers)
    for _ in range(4):
        suite = Suite(tmp_path, f"workers={workers}")
        time.sleep(draw.uniform(5, 30))
        suite.process.kill()
        suite.process.wait()
    returned, said = Suite(tmp_path, f"workers={workers}").end()
    assert returned == 0, said
    check_equal(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_workers_with_checkpoints(signum, status, undisturbed, tmp_path):
    suite = Suite(tmp_path, "workers=2")
    going = suite.wait_for_steps()
    os.killpg(suite.process.pid, signum)  # as Ctrl-C on a terminal
    returned, said = suite.end()
    assert returned == status, said
    assert "Traceback" not in said
    assert not [each for each in going if Path(f"/proc/{each['pid']}").exists()]
    check_saved(tmp_path)
    returned, said = Suite(tmp_path, "workers=2").end()
    assert returned == 0, said
    check_equal(tmp_path, undisturbed)


@pytest.mark.slow
def test_workers_do_not_outlive_their_parent(undisturbed, tmp_path):
    suite = Suite(tmp_path, "workers=2")
    going = suite.wait_for_steps()
    suite.process.kill()
    suite.process.wait()
    deadline = time.monotonic() + 60
    while [each for each in going if Path(f"/proc/{each['pid']}").exists()] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert time.monotonic() < deadline
    returned, said = Suite(tmp_path).end()
    assert returned == 0, said
    check_equal(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_task_only(undisturbed, tmp_path):
    suite = Suite(tmp_path, "workers=2")
    going = suite.wait_for_steps()
    os.kill(going[0]["pid"], signal.SIGKILL)
    returned, said = suite.end()
    assert returned == 1, said
    assert "signal 9" in said
    assert len(results(tmp_path)) == len(LABELS)
    returned, said = Suite(tmp_path).end()
    assert returned == 0, said
    check_equal(tmp_path, undisturbed)


@pytest.mark.slow
def test_two_commands_share_a_grid(undisturbed, tmp_path):
    suites = [Suite(tmp_path) for _ in range(2)]
    for suite in suites:
        returned, said = suite.end()
        assert returned == 0, said
    check_equal(tmp_path, undisturbed)
    logs = "".join(path.read_text() for path in tmp_path.glob("suites/*/resnet8_resnet8*.log"))
    for label in LABELS:  # each seed once, whoever trained it
        assert sum(line.startswith(f"epoch 1/3  {label:4} ") for line in logs.splitlines()) == len(SEEDS)


RAY = ("launcher=ray", "workers=2")


@pytest.mark.slow
def test_ray_continues_what_a_lost_worker_began(undisturbed, tmp_path):
    pytest.importorskip("ray")
    suite = Suite(tmp_path, *RAY)
    going = suite.wait_for_steps(steps=12, tasks=1)  # behind a checkpoint
    os.kill(going[0]["pid"], signal.SIGKILL)
    returned, said = suite.end()
    assert returned == 0, said
    check_equal(tmp_path, undisturbed)
    logs = [path.read_text() for path in tmp_path.glob("suites/*/resnet8_resnet8*.log")]
    assert sum("continued at step" in log for log in logs) == 1


@pytest.mark.slow
def test_ray_is_interrupted_with_checkpoints(undisturbed, tmp_path):
    pytest.importorskip("ray")
    suite = Suite(tmp_path, *RAY)
    suite.wait_for_steps()
    suite.process.send_signal(signal.SIGINT)
    returned, said = suite.end()
    assert returned == 130, said
    assert "Traceback" not in said
    check_saved(tmp_path)
    returned, said = Suite(tmp_path).end()
    assert returned == 0, said
    check_equal(tmp_path, undisturbed)


def test_a_task_is_cancelled_also_where_its_parents_ignore_ctrl_c(tmp_path):
    """As all do that a script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            _work(Fake("cancelled", "cancel"), tmp_path, None)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_that_is_not_there(address):
    pytest.importorskip("ray")
    settings = SuiteConfig(launcher=LauncherKind.ray, address=address)
    run = SimpleNamespace(train=SimpleNamespace(device="cpu", threads=1))
    with pytest.raises(UserError, match=f"address={address}: "), Cluster(settings, run):
        pass
