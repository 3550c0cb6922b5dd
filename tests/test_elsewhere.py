"""Everything runs on a device that is not the CPU: on a simulated one, whose tensors do not mix with the CPU's.

Functions whose names begin with `child` run in a process that has it.
"""

import contextlib
import importlib
import io
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest
import safetensors.torch
import torch
from commands import TINY, few_digits, interrupted_at, merge, same, weights
from helpers import make, pretraining_terms_of, random_features, terms_of, with_grad
from tape import Tapes
from torch import Tensor
from torch.utils import backend_registration

import methods
from benchmarks import parity
from benchmarks.cli import main
from benchmarks.distillation import Distillation
from benchmarks.training import cohort, stopwatch

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch knows no devices written in Python",
)
METHODS = methods.available()
# Convolutions of single pixels take another way where torch sees another device, and round otherwise: like a start
# that is off in its last bit, this is a thousandth of the weights after some steps.
ROUNDS = {"reviewkd"}
# With buffers, random numbers, hooks or views of their own; of the others, placing their losses' tensors is all.
LIVELY = ("none", "kd", "ft", "ab", "crd", "mlkd", "ofd", "simkd", "ctkd", "sskd", "aftkd")


@pytest.fixture(scope="module")
def child():
    """Calls a function in the process that has the device."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, torch.set_num_threads, (1,)) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(timeout=300)


def child_mixes():
    from elsewhere import DEVICE

    there, here = torch.ones(3, device=DEVICE), torch.ones(3)
    for mixed in (lambda: there + here, lambda: torch.stack([here, there]), lambda: there[here.long()]):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    assert (there + here.to(DEVICE)).tolist() == [2, 2, 2]
    assert type(there.cpu()) is Tensor
    assert (there * torch.tensor(2.0)).device == DEVICE  # a number is at home everywhere
    assert there.add_(1) is there
    there[1:].zero_()
    assert there.tolist() == [2, 0, 0]


class PassingTapes(Tapes):
    """Keeps no tape: what one refers to cannot be given other values on a device written in Python."""

    def record(self, work, generators):
        replay = super().record(work, generators)
        del self.tape
        return replay


def unrehearsed(patch):
    """Let runs begin at once: rehearsing many methods takes as long as a short training of them."""
    patch.setattr(Distillation, "rehearse", lambda distillation, bench, complete: None)


def child_run(words, module="benchmarks.run", stopped_at=None, replayed=False):
    """A command on the device: its status, what it said, and how many steps were replayed, if they were to be."""
    import elsewhere

    tapes, said = PassingTapes(), io.StringIO()
    stopped = interrupted_at(stopped_at) if stopped_at else contextlib.nullcontext()
    with few_digits(), stopped, pytest.MonkeyPatch.context() as patch:
        patch.setitem(stopwatch.PEAK_SIDE, elsewhere.NAME, 64)
        if replayed:
            patch.setattr(cohort, "graphs_of", lambda train, device: tapes)
            unrehearsed(patch)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = main(importlib.import_module(module).COMMAND, words)
    return status, said.getvalue(), tapes.played


def test_its_tensors_do_not_mix_with_others(child):
    child(child_mixes)


@pytest.fixture
def here(distil, tmp_path):
    """Runs a command on the CPU; where it left its results."""

    def run(*words):
        assert distil(*words, f"output={tmp_path / 'here'}") == 0
        return tmp_path / "here"

    return run


@pytest.fixture
def there(child, tmp_path, teacher_root):
    """The same on the simulated device; keywords as of `child_run`."""

    def run(*words, status=0, played=0, **how):
        base = [*TINY, f"output={tmp_path / 'there'}", f"teacher.root={teacher_root}"]
        ended, said, replays = child(partial(child_run, merge(base, words), **how))
        assert ended == status, said
        assert replays == played
        assert "launched one by one" not in said
        return tmp_path / "there"

    return run


def assert_alike(here, there, names):
    for name in names:
        ours, theirs = weights(here, name), weights(there, name)
        if name in ROUNDS:
            torch.testing.assert_close(theirs, ours, rtol=0, atol=0.02)
        else:
            assert same(ours, theirs), name


def losses(name, device):
    """A method's terms, and their gradients for the student's features and its own parameters."""
    features = (random_features(seed=seed, batch=8, dtype=torch.float32) for seed in (1, 2))
    student, teacher = (each.map(lambda part: part.to(device)) for each in features)
    student = with_grad(student)
    method = make(name, student, teacher, weights=dict.fromkeys(methods.configure(name).weights, 1.0))
    terms = terms_of(method, student, teacher) | pretraining_terms_of(method, student, teacher)
    total = sum(terms.values(), student.logits.sum())
    gradients = torch.autograd.grad(total, [*student.tensors(), *method.parameters()], allow_unused=True)
    return [each if each is None else each.detach().cpu() for each in (*terms.values(), *gradients)]


def child_losses(name):
    """Whether they are the same on both devices, bit for bit."""
    from elsewhere import DEVICE

    here, there = losses(name, torch.device("cpu")), losses(name, DEVICE)
    return all(a is b is None or torch.equal(a, b) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_losses_are_the_same_there(name, child):
    assert child(child_losses, name)


@pytest.mark.parametrize("names", [LIVELY, pytest.param(METHODS, marks=pytest.mark.slow)], ids=["lively", "all"])
def test_methods_learn_the_same_there(names, here, there, teacher_root, monkeypatch):
    """In steps that are launched, then replayed: one of four, in the main training and in the stage before it."""
    (teacher,) = teacher_root.rglob("teacher.safetensors")
    short = ("train.epochs=1", "train.milestones=[]", "train.max_steps=4", "train.batch_size=4")
    words = (f"methods=[{','.join(names)}]", *short, f"teacher.checkpoint={teacher}")
    unrehearsed(monkeypatch)
    assert_alike(here(*words), there(*words, replayed=True, played=2), names)


def test_an_interrupted_training_goes_on_there(here, there):
    words = ("methods=[crd,mlkd,aftkd]", "train.optimizer=dot")
    there(*words, stopped_at=4, status=143)
    assert_alike(here(*words), there(*words), ("crd", "mlkd", "aftkd"))


def test_whatever_is_written_there_is_the_same(here, there, tmp_path):
    """Teacher, student, what the teacher showed of each view, and artifacts."""
    words = ("method=crd", "teacher.views=embedding", "tracking.artifacts=true", "tracking.mode=offline")
    ours, theirs = (
        run(*words, f"teacher.root={tmp_path / place / 'teachers'}")
        for run, place in ((here, "here"), (there, "there"))
    )
    written, again = ({_place(path, root): path for path in root.rglob("*.safetensors")} for root in (ours, theirs))
    assert len(written) >= 4
    assert written.keys() == again.keys()
    for place, path in written.items():
        assert same(*map(safetensors.torch.load_file, (path, again[place]))), place


def _place(path, root):
    """Of a file: kept views have names by chance."""
    return (path.parent if "views" in path.parent.name else path).relative_to(root)


def test_students_of_a_plain_loop_are_the_same_there(child, tmp_path, teacher_root):
    words = ["methods=[none,kd,aftkd]", "repeats=2", "workers=0", f"teacher.root={teacher_root}"]
    found = []
    for place in ("here", "there"):
        out = tmp_path / f"{place}.json"
        line = merge(TINY, [*words, f"output={tmp_path / place}", f"out={out}"])
        if place == "there":
            status, said, _ = child(partial(child_run, line, "benchmarks.parity"))
            assert status == 0, said
        else:
            with few_digits():
                assert main(parity.COMMAND, line) == 0
        found.append(json.loads(out.read_text())["top1"])
    assert found[0] == found[1]


def test_throughput_is_measured_there(child, tmp_path):
    line = merge(TINY, ["methods=[kd,crd]", "repeats=1", "steps=1", "workers=0", f"output={tmp_path}"])
    status, said, _ = child(partial(child_run, line, "benchmarks.throughput"))
    assert status == 0, said
