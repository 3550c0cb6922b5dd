"""Compiled kernels are used where they do what torch's own do, and nowhere else: in networks, and in losses."""

import copy
import dataclasses
import itertools
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from commands import TINY, InjectedConfig, few_digits, injected, merge, result, run, same, weights
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from helpers import same_state
from light import assert_light
from students import CPU, TRAIN, batches, launcher, member, teaching, train
from torch._dynamo.backends.common import aot_autograd
from torch._inductor.decomposition import select_decomp_table

import methods
from benchmarks import models, protocol
from benchmarks.config import Device, Optimizer, TrainConfig
from benchmarks.data import Batch
from benchmarks.training import examining, forward
from benchmarks.training.build import frozen
from benchmarks.training.deviation import deviation
from benchmarks.training.examining import Examiner, losses_objection, network_objection
from benchmarks.training.layout import place
from methods import Method

NEEDS = frozenset({"stages", "preacts", "final"})
FAMILIES = ("vgg8", "wrn_16_1", "resnet8x4", "MobileNetV2", "ShuffleV1", "ShuffleV2")


def network(name="resnet8"):
    torch.manual_seed(0)
    return place(models.create(name, 10), CPU)


def images(count=8):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 32, 32, generator=generator).to(memory_format=torch.channels_last)


def precision(bf16=False):
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16)


def assert_compiles(network, bf16):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert network_objection(network, images(), NEEDS, precision(bf16)) is None
    assert same(network.state_dict(), before)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_compiled_networks_of_all_families(name, bf16):
    assert_compiles(network(name), bf16)
    assert_compiles(frozen(network(name)), bf16)


# What compilers do wrong


def scaled(shown, part, factor):
    return dataclasses.replace(shown, **{part: getattr(shown, part) * factor})


def overlearning(shown):
    """The right values with three times the gradient."""
    logits = shown.logits
    return dataclasses.replace(shown, logits=3 * logits - 2 * logits.detach())


def failing(shown):
    raise RuntimeError("no kernels today\nnor tomorrow")


WRONG = {
    "logits: off by": lambda shown: scaled(shown, "logits", 1.1),
    "embeddings: off by": lambda shown: scaled(shown, "embedding", float("nan")),
    "maps: off by": lambda shown: dataclasses.replace(shown, stages=tuple(each.abs() + 1 for each in shown.stages)),
    "gradients: off by": overlearning,
    "no kernels today": failing,
}


def compiles_wrongly(monkeypatch, harm, victim=forward._look):
    """Let compiling networks, or losses, do harm to what they give; the rest are torch's own kernels."""

    def compiled(function):
        return (lambda *args: harm(function(*args))) if function is victim else function

    monkeypatch.setattr(forward, "compiled", compiled)


@pytest.mark.parametrize(("reason", "harm"), WRONG.items(), ids=WRONG)
def test_wrong_kernels_are_objected_to(monkeypatch, reason, harm):
    compiles_wrongly(monkeypatch, harm)
    assert reason in network_objection(network(), images(), NEEDS, precision())


ADVICE = "\n\nSet TORCHDYNAMO_VERBOSE=1 for the internal stack trace"
ANNOUNCED = (
    "SubprocException: An exception occurred in a subprocess:\n\nTraceback (most recent call last):\n  File x\n"
)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("no kernels today\nsince Monday", "no kernels today"),
        ("RuntimeError: no kernels today\nsince Monday" + ADVICE, "RuntimeError: no kernels today"),
        (f"{ANNOUNCED}OSError: no kernels today\n{ADVICE}", "OSError: no kernels today"),
        (
            f"backend='mine' raised:\nOSError: no kernels today\n\nWhile executing %add : x{ADVICE}",
            "OSError: no kernels today",
        ),
        ("", "RuntimeError"),
        ("\n  no kernels today", "no kernels today"),
    ],
    ids=["plain", "advice", "subprocess", "backend", "wordless", "behind blanks"],
)
def test_an_objection_names_what_went_wrong(monkeypatch, told, reason):
    def fail(shown):
        raise RuntimeError(told)

    compiles_wrongly(monkeypatch, fail)
    assert network_objection(network(), images(), NEEDS, precision()) == reason


def test_the_peak_of_memory_begins_behind_an_examination(monkeypatch):
    """It would be that of float64, in every row of a training."""
    begun = []
    monkeypatch.setattr(examining, "begin_peak", begun.append)
    compiles_wrongly(monkeypatch, lambda shown: shown)
    network_objection(network(), images(), NEEDS, precision())
    losses_of("kd")
    assert begun == [CPU, CPU]


def test_rounding_is_not_objected_to(monkeypatch):
    compiles_wrongly(monkeypatch, lambda shown: scaled(shown, "logits", 1.001))
    assert network_objection(network(), images(), NEEDS, precision()) is None


def test_a_teacher_is_judged_by_what_it_shows(monkeypatch):
    compiles_wrongly(monkeypatch, overlearning)
    assert network_objection(frozen(network()), images(), NEEDS, precision()) is None


def seen_by(each):
    """A batch as a student meets it, and what both networks show of it."""
    (draws,) = itertools.islice(batches().epoch(0, views=each.views), 1)
    batch = Batch.join([batches().batch(draw) for draw in draws])
    taught = teaching().shows(each.needs, batch)
    before = copy.deepcopy(each.classifier.state_dict())
    shown = each.judged(batch.images, lambda: taught)
    each.classifier.load_state_dict(before)  # batch norms have moved
    return *shown, batch


def losses_of(name, **settings):
    each = member(name, **settings)
    before = copy.deepcopy(each.state(0))
    reason = losses_objection(each.classifier, *seen_by(each))
    assert same_state(each.state(0), before)
    return reason


@pytest.mark.parametrize("name", ["none", "crd"])  # the latter with parameters and buffers of its own
def test_compiled_losses_and_their_gradients_are_the_same(name):
    assert losses_of(name) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.available())
def test_compiled_losses_of_all_methods(name):
    assert losses_of(name) is None


def overlearned(losses):
    """The right values with three times the gradient."""
    return 3 * losses - 2 * losses.detach()


WRONG_LOSSES = {
    "loss ce: off by": lambda losses: 1.1 * losses,
    "gradients for feature": overlearned,
    "no kernels today": failing,
}


@pytest.mark.parametrize(("reason", "harm"), WRONG_LOSSES.items(), ids=WRONG_LOSSES)
@pytest.mark.parametrize("name", ["none", "kd", "catkd"])  # the last reads the student's own weights
def test_wrong_losses_are_objected_to(monkeypatch, name, reason, harm):
    compiles_wrongly(monkeypatch, harm, victim=forward._judge)
    assert reason in losses_of(name)


def test_connectors_that_do_not_learn_are_objected_to(monkeypatch):
    def rigid(method, *args):
        for parameter in method.parameters():
            parameter.register_hook(torch.zeros_like)
        return forward._judge(method, *args)

    monkeypatch.setattr(forward, "compiled", lambda function: rigid)
    assert losses_of("fitnet").startswith("gradients for connectors: off by 1 of")


def test_what_does_not_remember_is_objected_to(monkeypatch):
    def forgetful(function):
        def forget(module, *args):
            before = [buffer.clone() for buffer in module.buffers()]
            result = function(module, *args)
            for buffer, old in zip(module.buffers(), before, strict=True):
                buffer.data.copy_(old)  # unseen by the backward pass
            return result

        return forget

    monkeypatch.setattr(forward, "compiled", forgetful)
    assert losses_of("crd").startswith("memory bank_")
    assert network_objection(network(), images(), NEEDS, precision()).startswith("running statistics: off by")
    assert network_objection(frozen(network()), images(), NEEDS, precision()) is None


class Remembering(Method[InjectedConfig]):
    """Its loss reads what its forward changes: a compiled graph's backward pass reads it changed once more."""

    needs = frozenset({"logits", "embedding"})

    def __init__(self, config, context):
        super().__init__(config, context)
        self.register_buffer("center", torch.zeros(context.student.embedding))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, student, teacher, target, index):
        if self.training:
            self.count += 1
            self.center += (teacher.embedding.mean(dim=0) - self.center) / self.count
        ours, theirs = (F.normalize(each.embedding - self.center) for each in (student, teacher))
        return {"injected": (ours - theirs).square().sum()}


@pytest.fixture
def partitioned(monkeypatch):
    """Compiles to graphs, forward and backward, as torch does, but to no kernels, which takes minutes."""
    torch._dynamo.reset()
    backend = aot_autograd(
        fw_compiler=lambda graph, _: make_boxed_func(graph),
        decompositions=select_decomp_table,
        partition_fn=min_cut_rematerialization_partition,
        keep_inference_input_mutations=True,
    )
    compiled = cache(lambda function: torch.compile(function, backend=backend, dynamic=False))
    monkeypatch.setattr(
        forward, "compiled", lambda function: compiled(function) if function is forward._judge else function
    )


def test_what_a_graphs_backward_pass_reads_changed_is_objected_to(partitioned):
    with injected(Remembering):
        assert losses_of("injected").startswith("gradients for feature 0: off by 0.")


# Graphs as long as they need be: of as few stages as the method can do with.
SHORT = {"kdsvd": {"stages": [[2, 2], [3, 3]]}, "aftkd": {"stages": [[3, 3]]}}
# Of logits, maps and memories; of any method values and gradients are examined before they are used.
FEW = ("kd", "at", "crd", "ctkd", "aftkd")
GRAPHS = [
    pytest.param(name, SHORT.get(name, {}), marks=() if name in FEW else pytest.mark.slow)
    for name in methods.available()
]
GRAPHS += [
    pytest.param("aftkd", SHORT["aftkd"] | settings, marks=pytest.mark.slow)
    for settings in ({"content": "attention"}, {"center": False})
]


@pytest.mark.parametrize(("name", "settings"), GRAPHS, ids=str)
def test_losses_of_all_methods_learn_the_same_as_graphs(partitioned, name, settings):
    """Over several steps, in which memories move, and weights so little that no ReLU turns by rounding."""
    slow, said = dataclasses.replace(TRAIN, lr=1e-3), []
    own, compiled = member(name, train=slow, **settings), member(name, train=slow, **settings)
    start = copy.deepcopy(own.state(0))
    for each, launch in ((own, launcher()), (compiled, compiling_launcher(said))):
        for draws in itertools.islice(batches().epoch(0, views=each.views), 3):
            launch([each], draws, 0)
    assert not said
    off, part = deviation(start, own.state(0), compiled.state(0))
    assert off < 0.02, part


def test_methods_load_without_the_compiler():
    """It takes a second or two."""
    assert_light({"torch._dynamo"}, "import methods", "methods.available()")


def test_a_training_that_compiles_nothing_loads_no_compiler(tmp_path):
    words = ["data=digits", "network=resnet8", "train.epochs=1", "train.max_steps=1", "train.precision=fp32"]
    words += ["train.milestones=[]", f"output={tmp_path / 'runs'}", f"teacher.root={tmp_path / 'teachers'}"]
    lines = ["from benchmarks.teacher import COMMAND", "from benchmarks.cli import main"]
    assert_light({"torch._dynamo"}, *lines, f"assert main(COMMAND, {words}) == 0")


# In training


@pytest.fixture
def compiled(monkeypatch):
    """What compiled kernels, torch's own in their place, are used for: networks, and losses of methods."""
    found = []

    def told(function):
        return lambda *args: (found.append((function.__name__, *args)), function(*args))[1]

    monkeypatch.setattr(forward, "compiled", told)
    return found


def looks(compiled):
    """Sizes of the batches that were looked at, and whether by a student."""
    return [(len(args[1]), args[0].training) for name, *args in compiled if name == "_look"]


def judged(compiled):
    """Methods whose losses were computed, and of how many images."""
    return {(args[0].name, len(args[3])) for name, *args in compiled if name == "_judge"}


def compiling_launcher(said):
    launch = launcher(said=said)
    launch.examine = Examiner(launch.teaching, launch.say, compiles=True)
    return launch


def test_a_training_does_without_wrong_kernels_and_says_why(monkeypatch):
    compiles_wrongly(monkeypatch, overlearning)
    own, compiled, said = member("kd"), member("kd"), []
    train([own], launcher())
    train([compiled], compiling_launcher(said))
    (note,) = said
    assert "torch's own kernels, not compiled ones: the student: gradients: off by" in note
    assert same_state(own.state(0), compiled.state(0))


def test_wrong_losses_are_done_without_and_others_are_not(compiled, monkeypatch):
    tell = forward.compiled

    def wrong(function):
        told = tell(function)
        return lambda method, *args: (
            overlearned(told(method, *args)) if method.name == "at" else told(method, *args)
        )

    monkeypatch.setattr(
        forward, "compiled", lambda function: wrong(function) if function is forward._judge else tell(function)
    )
    names, said = ("at", "kd"), []
    own, faster = [member(name) for name in names], [member(name) for name in names]
    train(own, launcher())
    train(faster, compiling_launcher(said))
    (note,) = said
    assert note.startswith("note: the losses of at are computed by torch's own kernels, not compiled ones: grad")
    assert [args[0].name for kind, *args in compiled if kind == "_judge"].count("at") == 1  # the examination
    assert {True, False} == {learning for _, learning in looks(compiled)}
    assert all(same_state(one.state(0), other.state(0)) for one, other in zip(own, faster, strict=True))


@pytest.mark.parametrize("name", ["none", "at", "mlkd", "ft"])
def test_whole_batches_are_computed_by_compiled_kernels_and_short_ones_are_not(compiled, name):
    own, faster, said = member(name), member(name), []
    train([own], launcher())
    train([faster], compiling_launcher(said))
    assert not said
    whole = len(faster.views) * TRAIN.batch_size
    assert {size for size, _ in looks(compiled)} == {TRAIN.batch_size, whole}
    assert judged(compiled) == {(name, whole)}
    assert len(looks(compiled)) > 4
    assert same_state(own.state(0), faster.state(0))


class Warming(Method[InjectedConfig]):
    """Its loss grows from epoch to epoch."""

    needs = frozenset({"logits"})

    def epoch(self, e):
        self.factor = e

    def forward(self, student, teacher, target, index):
        return {"injected": self.factor * (student.logits - teacher.logits).square().mean()}


def test_losses_that_heed_the_epoch_are_not_compiled_for_each_anew(compiled):
    with injected(Warming):
        train([member("injected")], compiling_launcher([]))
    assert not judged(compiled)
    assert {True, False} == {learning for _, learning in looks(compiled)}


def test_a_run_with_compiled_kernels_learns_the_same(tmp_path, teacher_root):
    words = merge(TINY, ["methods=[none,kd]", f"teacher.root={teacher_root}"])
    with few_digits():
        for compiles in ("true", "false"):
            assert run(*words, f"train.compile={compiles}", f"output={tmp_path / compiles}") == 0
    for label in ("none", "kd"):
        compiled, own = (weights(tmp_path / each, label) for each in ("true", "false"))
        for name, tensor in own.items():
            torch.testing.assert_close(compiled[name], tensor, rtol=0.02, atol=0.02)
        results = [result(tmp_path / each, label) for each in ("true", "false")]
        losses = [each["history"][-1]["train/loss"] for each in results]
        assert losses[0] == pytest.approx(losses[1], rel=0.02)
        assert not any(each.get("notices") for each in results)  # the examined kernels were right, and used


def test_a_result_says_what_it_did_without(tmp_path, teacher_root, monkeypatch):
    compiles_wrongly(monkeypatch, overlearning)
    words = merge(
        TINY, ["methods=[kd]", f"teacher.root={teacher_root}", f"output={tmp_path}", "train.compile=true"]
    )
    with few_digits():
        assert run(*words) == 0
    (notice,) = result(tmp_path, "kd")["notices"]
    assert "not compiled ones" in notice


# Where it is done


@pytest.mark.parametrize("name", methods.available())
def test_what_is_compiled_learns_as_a_whole(name):
    """Of what no loss reaches, compiled kernels give zeros for gradients, and weight decay acts."""
    each = member(name)
    _, taught, batch = seen_by(each)
    losses, _ = each.losses(batch, lambda: taught)
    gradients = torch.autograd.grad(losses.sum(), list(each.network.parameters()), allow_unused=True)
    assert each.reaches_all <= all(gradient is not None for gradient in gradients)
    assert each.reaches_all == (name != "simkd")


@pytest.mark.parametrize(
    ("name", "settings"), [("simkd", {}), ("at", {"weights": {"ce": 0.0, "kd": 0.0, "at": 1.0}})], ids=str
)
def test_a_student_that_does_not_learn_as_a_whole_is_not_compiled_and_its_teacher_is(compiled, name, settings):
    train([member(name, **settings)], compiling_launcher([]))
    assert {learning for _, learning in looks(compiled)} == {False}


@pytest.mark.parametrize(
    ("changes", "compiles"),
    [
        ({}, True),
        ({"epochs": 2}, False),
        ({"max_steps": 100}, False),
        ({"deterministic": True}, False),
        ({"device": Device.cpu}, False),
        ({"optimizer": Optimizer.dot}, False),
    ],
    ids=str,
)
def test_where_compiling_repays_itself(monkeypatch, changes, compiles):
    monkeypatch.setattr(protocol, "has_gpu_compiler", lambda: True)
    config = dataclasses.replace(TrainConfig(epochs=240, device=Device.cuda), **changes)
    assert protocol.pays_to_compile(config, 50_000) == compiles
    monkeypatch.setattr(protocol, "has_gpu_compiler", lambda: False)
    assert not protocol.pays_to_compile(config, 50_000)
