"""DOT: momentum apart for the task's gradients and distillation's, against the update written out."""

import dataclasses
import re
import signal

import pytest
import torch
import torch.nn.functional as F
from commands import interrupted_at, result, run_folders, same, weights, without_times
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import protocol
from benchmarks.cli import compose_config
from benchmarks.config import Device, Optimizer, TrainConfig
from benchmarks.console import make_console
from benchmarks.data import INFO
from benchmarks.files import write_record
from benchmarks.report import print_results
from benchmarks.results import find_job, student_alone
from benchmarks.run import COMMAND
from benchmarks.training.build import specs_of
from benchmarks.training.optimizers import DOT, optimizer_of

LR, MOMENTUM, DECAY = 0.1, 0.9, 0.01
ONES = torch.ones(3)


def train(delta, optimizer=Optimizer.dot):
    return dataclasses.replace(
        TrainConfig(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY, optimizer=optimizer, delta=delta
    )


class Toy(torch.nn.Module):
    """A body that both losses reach, a head for the task and a connector for distillation."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name, shape in {"body": (3, 4), "head": (4, 2), "connector": (4, 5), "idle": (2,)}.items():
            setattr(self, name, torch.nn.Parameter(torch.randn(shape, generator=generator)))

    def losses(self, x, target, hint):
        hidden = torch.tanh(x @ self.body)
        task = F.cross_entropy(hidden @ self.head, target)
        return (hidden @ self.connector - hint).square().mean(), task, hidden.square().mean()


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return (
        torch.randn(6, 3, generator=generator),
        torch.randint(0, 2, (6,), generator=generator),
        torch.randn(6, 5, generator=generator),
    )


def written_out(toy, delta, num_steps):
    """The paper's update; the task is the second of the three losses."""
    velocity = {}
    names, parameters = zip(*toy.named_parameters(), strict=True)
    for step in range(num_steps):
        hint, task, size = toy.losses(*batch(step))
        of_task = torch.autograd.grad(task, parameters, retain_graph=True, allow_unused=True)
        of_others = torch.autograd.grad(hint + size, parameters, allow_unused=True)
        with torch.no_grad():
            for name, p, t, d in zip(names, parameters, of_task, of_others, strict=True):
                moves = []
                if t is not None and d is not None:
                    moves = [("task", t + DECAY * p, MOMENTUM - delta), ("distil", d, MOMENTUM + delta)]
                elif t is not None or d is not None:
                    moves = [("alone", (d if t is None else t) + DECAY * p, MOMENTUM)]
                for kind, gradient, momentum in moves:
                    velocity[name, kind] = momentum * velocity.get((name, kind), 0) + gradient
                for kind, *_ in moves:
                    p -= LR * velocity[name, kind]


def descend(toy, optimizer, num_steps, begin=0):
    for step in range(begin, begin + num_steps):
        optimizer.descend(torch.stack(toy.losses(*batch(step))), ONES)


@pytest.mark.parametrize("delta", [0.0, 0.05, 0.09])
def test_matches_the_update_written_out(delta):
    toy, twin = Toy(0), Toy(0)
    optimizer = optimizer_of(toy.parameters(), train(delta), ("hint", "ce", "size"))
    assert isinstance(optimizer, DOT)
    descend(toy, optimizer, 5)
    written_out(twin, delta, 5)
    for (name, ours), expected in zip(toy.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6, msg=name)
    assert torch.equal(toy.idle, Toy(0).idle)  # not even by weight decay: nothing reaches it


@given(st.integers(0, 1000))
def test_without_delta_it_is_plain_sgd(seed):
    toys = [Toy(seed), Toy(seed)]
    for toy, optimizer in zip(toys, Optimizer, strict=True):
        descend(toy, optimizer_of(toy.parameters(), train(0.0, optimizer), ("hint", "ce", "size")), 4)
    for ours, theirs in zip(*(toy.parameters() for toy in toys), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_plain_sgd_is_torchs_to_the_bit_and_goes_on_from_its_state(momentum):
    ours, theirs = Toy(0), Toy(0)
    settings = dataclasses.replace(train(0.0, Optimizer.sgd), momentum=momentum)
    torchs = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=momentum, weight_decay=DECAY, fused=True)
    state = None
    for step in range(4):
        optimizer = optimizer_of(ours.parameters(), settings, ("hint", "ce", "size"))
        if state is not None:
            optimizer.load_state_dict(state)
        optimizer.descend(torch.stack(ours.losses(*batch(step))), ONES)
        state = optimizer.state_dict()
        torchs.zero_grad()
        torch.stack(theirs.losses(*batch(step))).sum().backward()
        torchs.step()
    assert same(dict(ours.state_dict()), dict(theirs.state_dict()))


def test_its_state_is_saved():
    whole, first, second = Toy(0), Toy(0), Toy(1)
    optimizers = [
        optimizer_of(toy.parameters(), train(0.05), ("hint", "ce", "size")) for toy in (whole, first, second)
    ]
    descend(whole, optimizers[0], 6)
    descend(first, optimizers[1], 3)
    second.load_state_dict(first.state_dict())
    optimizers[2].load_state_dict(optimizers[1].state_dict())
    descend(second, optimizers[2], 3, begin=3)
    assert same(dict(second.state_dict()), dict(whole.state_dict()))


def convolved(layout):
    """A convolution, laid out in a way, and the losses of a step on maps that lie channels last."""
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(4, 6, 3).to(memory_format=layout)

    def losses(step):
        maps = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(step))
        made = convolution(maps.to(memory_format=torch.channels_last))
        return torch.stack([made.square().mean(), made.abs().mean()])

    return convolution, losses


@pytest.mark.parametrize("kind", Optimizer)
def test_parameters_may_lie_in_any_layout_and_change_it_where_a_state_is_continued(kind):
    """Fused kernels pair a parameter, its gradient and its momentum in the order in which they lie."""

    def trained(*layouts):
        states = None
        for k, layout in enumerate(layouts):
            convolution, losses = convolved(layout)
            optimizer = optimizer_of(convolution.parameters(), train(0.05, kind), ("ce", "size"))
            if states is not None:
                convolution.load_state_dict(states[0])
                optimizer.load_state_dict(states[1])
            for step in (2 * k, 2 * k + 1):
                optimizer.descend(losses(step), ONES[:2])
            states = convolution.state_dict(), optimizer.state_dict()
        return convolution.weight

    last, first = torch.channels_last, torch.contiguous_format
    expected = trained(last, last)
    torch.testing.assert_close(trained(first, first), expected)
    torch.testing.assert_close(trained(first, last), expected)
    torch.testing.assert_close(trained(last, first), expected)


# Commands

DOT_WORDS = ("train.optimizer=dot", "train.epochs=2")


def test_a_cohort_under_dot_is_what_each_is_alone_and_survives_interruption(distil, output, tmp_path):
    assert distil(*DOT_WORDS, "methods=[kd]", f"output={tmp_path}/alone") == 0
    with interrupted_at(4):
        assert distil(*DOT_WORDS, "methods=[fitnet,kd]") == 128 + signal.SIGTERM
    assert distil(*DOT_WORDS, "methods=[fitnet,kd]") == 0
    assert same(weights(output, "kd"), weights(tmp_path / "alone", "kd"))
    history = without_times(result(output, "kd")["history"])
    assert history == without_times(result(tmp_path / "alone", "kd")["history"])
    assert distil("methods=[kd]") == 0
    first, second = run_folders(output, "kd")
    assert first.name != second.name  # the optimiser is part of what a run is


def test_the_teacher_is_trained_as_ever_and_the_gain_is_over_the_student_alone(distil, capsys):
    words = [*DOT_WORDS, "train.delta=0.05"]
    assert distil(*words, "method=kd") == 0
    shown = capsys.readouterr().out
    assert "trained first" not in shown  # the store's serves
    assert "the same command with method=none train.optimizer=sgd and no train.delta" in shown
    assert distil("method=none", "train.optimizer=sgd", "train.epochs=2") == 0
    capsys.readouterr()
    assert distil(*words, "method=kd") == 0
    assert "the gain needs" not in capsys.readouterr().out


def test_the_student_alone_that_a_gpu_is_asked_for_is_the_one_that_is_looked_for(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(protocol, "_device", lambda device: Device.cuda)
    monkeypatch.setattr(protocol, "has_gpu_compiler", lambda: True)  # so that sgd is compiled unless told otherwise

    def job(*words):
        usual = ["pair=vgg13_vgg8", "train.precision=bf16", f"output={tmp_path}"]
        run, (variant,) = protocol.resolve(*compose_config(COMMAND, [*usual, *words]))
        student = variant.resolve(run, specs_of(run.pair, INFO["cifar100"]))
        return run, find_job(run, student, "the teacher's" if student.has_teacher else None)

    done = {
        "status": "complete",
        "summary": {"test/top1_last": 70.0, "test/top1_best": 71.0},
        "wandb": None,
        "config": {"code": {}, "method": {}},
    }
    run, taught = job("method=kd", "train.optimizer=dot")
    taught.result = done
    print_results(make_console(), run, [taught])
    (asked,) = re.findall("the same command with (.*) and no train.delta", capsys.readouterr().out)
    write_record(job(*asked.split())[1].folder.path / "result.json", done)
    assert student_alone(tmp_path, taught.config) == 70


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["train.optimizer=dot", "method=none"], "train.optimizer=dot"),
        (["train.optimizer=dot", "method=kd", "method.weights.ce=0"], "train.optimizer=dot"),
        (["train.optimizer=dot", "method=kd", "train.delta=0.1"], "train.delta"),
        (["train.optimizer=dot", "method=kd", "train.delta=-0.1"], "train.delta"),
        (["train.optimizer=dot", "method=kd", "train.momentum=0"], "train.delta"),
        (["method=kd", "train.delta=0.05"], "train.delta"),
        (["method=kd", "train.delta=0.075"], "train.delta"),
        (["method=kd", "train.optimizer=adam"], "adam"),
    ],
)
def test_what_cannot_work_is_refused(words, key, distil, output, capsys):
    assert distil(*words) == 2
    assert key in capsys.readouterr().err
    assert not output.exists()
