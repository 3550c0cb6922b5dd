"""The throughput command: its plain loop does the same work as ours, and its figures are what they say."""

import dataclasses
import json
import re

import pytest
import torch
from commands import TINY, few_digits, merge
from tape import Tapes

import methods
from benchmarks import costs, rounds, throughput
from benchmarks.cli import compose_config, main
from benchmarks.console import make_console
from benchmarks.data import INFO, UPRIGHT, Batch, Draw, EvaluationBatches, TrainBatches, View
from benchmarks.distillation import Distillation
from benchmarks.plain_loop import PlainImages, PlainLoop, most_workers
from benchmarks.protocol import resolve
from benchmarks.rounds import Throughput
from benchmarks.training import examining, forward, stopwatch
from benchmarks.training.build import build_member
from benchmarks.training.device import seconds
from benchmarks.training.evaluate import figures, logits_of
from benchmarks.training.kernels import Share, by_kind, kind_of
from benchmarks.training.stopwatch import operations
from benchmarks.training.teaching import Teaching
from benchmarks.workbench import open_workbench
from methods.schedules import LossConfig, Schedule

WORDS = (*TINY, "methods=[kd,aftkd]", "repeats=2", "steps=1", "workers=0")

PARTS = ("data", "teacher", "student", "optimiser", "method")


def run(*words):
    with few_digits():
        return main(throughput.COMMAND, [*WORDS, *words])


@pytest.fixture
def bench(tmp_path):
    words = merge(WORDS, ["methods=[kd,aftkd,mlkd]", f"output={tmp_path}"])
    config, variants = resolve(*compose_config(throughput.COMMAND, words))
    distillation = Distillation(config, variants, make_console())
    with few_digits():
        return Throughput(config, distillation, open_workbench(config, make_console()))


def loop_of_kd(tmp_path, *words):
    """Ours, on two batches of 16 and one of 8."""
    words = merge(WORDS, ["methods=[kd]", "train.batch_size=16", f"output={tmp_path}", *words])
    config, variants = resolve(*compose_config(throughput.COMMAND, words))
    distillation = Distillation(config, variants, make_console())
    with few_digits(train=40):
        return Throughput(config, distillation, open_workbench(config, make_console())).alone["kd"]


def test_parts_are_measured_of_whole_batches(tmp_path):
    loop = loop_of_kd(tmp_path)
    assert [len(loop.views()[UPRIGHT].targets) for _ in range(5)] == [16] * 5


def test_the_step_whose_operations_are_counted_learns_of_known_views_alone(tmp_path):
    loop = loop_of_kd(tmp_path, "teacher.views=logits")
    loop.views(), loop.views()  # what comes next is the short batch
    stopwatch.operations(loop)
    assert all(value.isfinite().all() for value in loop.members[0].network.parameters())


def test_it_prints_rates_and_parts_and_writes_the_raw_figures(capsys, tmp_path):
    out = tmp_path / "figures" / "raw.json"
    assert run(f"out={out}") == 0
    printed = capsys.readouterr().out
    raw = json.loads(out.read_text())
    times = raw["seconds_of_a_step"]
    slow, fast = times["plain"]["kd"], times["alone"]["kd"]
    ratios = sorted(one / other for one, other in zip(slow, fast, strict=True))
    assert len(times["cohort"]) == len(slow) == 2
    assert f"{sum(ratios) / 2:.2f} ({ratios[0]:.2f}–{ratios[1]:.2f})" in printed
    assert len(re.findall(r"^ aftkd ", printed, re.MULTILINE)) == 2
    assert raw["environment"]["libraries"]["torch"] == torch.__version__
    parts = raw["parts"]["kd"]
    assert sum(parts[name] for name in PARTS) == pytest.approx(parts["step"])


def test_views_asked_for_are_known_to_ours_and_the_teacher_does_not_look(capsys, tmp_path, monkeypatch):
    looks = []

    def watched(self, needs, batch, compiles=False):
        looks.append((self.table is not None and self.table.answers(needs, batch), within))
        return shows(self, needs, batch)

    def timed(work, num_steps, device):
        nonlocal within
        within = True
        elapsed = seconds(work, num_steps, device)
        within = False
        return elapsed

    within, shows = False, Teaching.shows
    monkeypatch.setattr(Teaching, "shows", watched)
    monkeypatch.setattr(rounds, "seconds", timed)
    out = tmp_path / "raw.json"
    words = merge(WORDS, ["methods=[kd,dkd]", "teacher.views=logits", "train.batch_size=16", f"out={out}"])
    with few_digits():
        assert main(throughput.COMMAND, words) == 0
    assert "what the teacher shows in the steps of ours is known" in capsys.readouterr().out
    measured = [looked_up for looked_up, timing in looks if timing]
    assert len(measured) == 2 * 3  # rounds of kd alone, dkd alone, the cohort
    assert all(measured)
    shown = {label: parts["operations"] for label, parts in json.loads(out.read_text())["parts"].items()}
    macs = costs.cost("resnet8", INFO["digits"]).macs
    assert shown["kd"] / (2 * 16 * macs) < 3  # the student's alone


def test_parts_of_replayed_steps_are_those_of_launched_ones(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(stopwatch, "graphs_of", lambda train, device: Tapes())
    out = tmp_path / "raw.json"
    words = merge(WORDS, ["methods=[kd]", "train.optimizer=dot", f"out={out}"])
    with few_digits():
        assert main(throughput.COMMAND, words) == 0
    assert "replayed ones can be measured as a whole only" in " ".join(capsys.readouterr().out.split())
    parts = json.loads(out.read_text())["parts"]["kd"]
    assert sum(parts[name] for name in PARTS) == pytest.approx(parts["launched"])


def objecting(monkeypatch, reason):
    """Compiled kernels are examined with this result, and torch's own compute in their place."""
    for kind in ("network_objection", "losses_objection"):
        monkeypatch.setattr(examining, kind, lambda *_: reason)
    monkeypatch.setattr(forward, "compiled", lambda function: function)


def test_what_is_not_compiled_after_all_is_said(capsys, tmp_path, monkeypatch):
    objecting(monkeypatch, "off by a mile")
    out = tmp_path / "raw.json"
    assert run("train.compile=true", f"out={out}") == 0
    printed, notices = " ".join(capsys.readouterr().out.split()), json.loads(out.read_text())["notices"]
    assert set(notices) == {"kd alone", "aftkd alone", "the cohort"}
    for name, (networks, *losses) in notices.items():
        assert f"note: {name}: the networks compute by torch's own kernels" in printed
        assert "off by a mile" in networks
        assert len(losses) == (2 if name == "the cohort" else 1)


@pytest.mark.parametrize("compiles", [True, False])
def test_parts_are_of_the_kernels_that_compute(monkeypatch, compiles):
    objecting(monkeypatch, None)
    seen, parts = set(), throughput.parts

    def watched(function):
        def watch(*arguments):
            seen.add((function.__name__, bool(arguments[-1])))
            return function(*arguments)

        return watch

    def measured(*arguments):
        with monkeypatch.context() as patch:
            for place, function in ((stopwatch, stopwatch.look), (Teaching, Teaching.shows)):
                patch.setattr(place, function.__name__, watched(function))
            return parts(*arguments)

    monkeypatch.setattr(throughput, "parts", measured)
    assert run(f"train.compile={str(compiles).lower()}") == 0
    assert seen == {("look", compiles), ("shows", compiles)}


@pytest.mark.parametrize("compiles", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_a_student_whose_own_head_never_learns_is_measured_too(capsys, compiles):
    """SimKD's: its optimiser knows no momentum of it."""
    words = merge(WORDS, ["methods=[none,simkd]", f"train.compile={compiles}"])
    with few_digits():
        assert main(throughput.COMMAND, words) == 0
    assert len(re.findall(r"^ simkd ", capsys.readouterr().out, re.MULTILINE)) == 2


def test_a_batch_of_more_images_than_there_are_is_refused(capsys):
    with few_digits():
        assert main(throughput.COMMAND, merge(WORDS, ["train.batch_size=401"])) == 2
    assert "train.batch_size=401 is more than the 400 training images" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["repeats=0", "steps=-1", "workers=-1"])
def test_counts_that_cannot_be_are_refused(word, capsys, tmp_path):
    config = [words for words in WORDS if words.split("=")[0] != word.split("=")[0]]
    assert main(throughput.COMMAND, [*config, word, f"out={tmp_path / 'raw.json'}"]) == 2
    assert word in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_plain_loop_finds_its_workers_where_no_cores_are_assigned(monkeypatch):
    """As on macOS."""
    monkeypatch.delattr("os.sched_getaffinity")
    assert 1 <= most_workers() <= 16


def test_kernels_are_told_by_kind_and_written_by_name(capsys, tmp_path):
    out = tmp_path / "raw.json"
    assert run("kernels=true", f"out={out}") == 0
    printed, raw = capsys.readouterr().out, json.loads(out.read_text())
    assert {"kd", "aftkd", "cohort of 2"} == set(raw["kernels"])
    for found in raw["kernels"].values():
        by_kinds = by_kind({name: Share(**each) for name, each in found.items()})
        assert {"convolutions", "batch norms", "optimiser", "matrix products"} <= set(by_kinds)
        conv = by_kinds["convolutions"]
        assert f"{1000 * conv.seconds:.3f} ({conv.count:.0f})" in printed
    counts = {loop: sum(each["count"] for each in found.values()) for loop, found in raw["kernels"].items()}
    # Of the networks' forward and backward passes the teacher's, once instead of twice, is a small part.
    assert counts["kd"] < counts["aftkd"] < counts["cohort of 2"] < counts["kd"] + counts["aftkd"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32", "convolutions"),
        (
            "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32_128x1_nn_align2>",
            "matrix products",
        ),
        ("triton_poi_fused__native_batch_norm_legit_functional_convolution_backward_5", "compiled by torch"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float>", "batch norms"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata>", "optimiser"),
        ("Memcpy DtoD (Device -> Device)", "copies and fillings"),
        ("aten::mkldnn_convolution", "convolutions"),
        ("aten::addmm", "matrix products"),
        ("aten::relu", "others"),
    ],
)
def test_kernels_have_a_kind(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize("place", ["file/raw.json", "folder"])
def test_where_the_figures_cannot_be_written_nothing_is_measured(place, monkeypatch, capsys, tmp_path):
    monkeypatch.delattr(throughput, "Throughput")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert run(f"out={tmp_path}/{place}") == 2
    assert f"out={tmp_path}/{place[:4]}" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["kd", "aftkd", "mlkd"])
def test_the_plain_loop_computes_the_same_loss(bench, label):
    (student,) = (student for student in bench.students if student.label == label)
    loop = PlainLoop(student, bench.specs, bench.dataset, bench.teacher, bench.device, num_workers=0)
    member = build_member(student, bench.specs, bench.dataset.train.targets, num_steps=10)
    member.network.load_state_dict(loop.student.state_dict())
    member.method.load_state_dict(loop.method.state_dict())
    images, targets, index = loop.next_batch()
    batch = Batch(images, targets, index)
    shown = Teaching(loop.teacher, member.precision).shows(member.needs, batch)
    losses, _ = member.losses(batch, lambda: shown)
    loss, _ = loop._step(images, targets, index)
    assert loss == pytest.approx((losses * member.main.weights).sum().item(), rel=1e-4)


def test_plain_loops_share_their_workers_and_no_batch(bench):
    kd, aftkd, mlkd = bench.plain.values()
    assert kd.batches is aftkd.batches is not mlkd.batches  # which takes several views
    ours, theirs = (set(loop.next_batch()[2].tolist()) for loop in (kd, aftkd))
    assert not ours & theirs


def test_the_plain_loop_of_a_student_alone_asks_no_teacher(bench, monkeypatch):
    student = dataclasses.replace(bench.students[0], method=methods.configure("none"))
    monkeypatch.setattr(bench.teacher, "features", None)
    loop = PlainLoop(student, bench.specs, bench.dataset, bench.teacher, bench.device, num_workers=0)
    assert loop.run(3) >= 0


def test_the_plain_loop_keeps_to_the_protocol(bench):
    train = dataclasses.replace(bench.config.train, epochs=3, milestones=[1, 2], max_steps=2)
    student = dataclasses.replace(
        bench.students[0], train=train, loss=LossConfig(schedule=Schedule.linear, warm_up=0, end=0)
    )
    loop = PlainLoop(student, bench.specs, bench.dataset, bench.teacher, bench.device, num_workers=0)
    seen = []
    for _ in range(3):
        rate = loop.optimizer.param_groups[0]["lr"]
        loop.run_epoch()
        seen.append((rate, loop.step, loop.schedule.factors[loop.method.terms.index("kd")].item()))
    rates, steps, factors = zip(*seen, strict=True)
    assert rates == pytest.approx([train.lr, train.lr * 0.1, train.lr * 0.01])
    assert steps == (2, 4, 6)
    assert factors == pytest.approx([0.8, 0.4, 0])


def test_the_plain_loop_evaluates_the_whole_split_without_augmentation(bench):
    loop = bench.plain["kd"]
    loop.run(2)
    evaluation = EvaluationBatches(bench.dataset, bench.device)
    (logits,) = logits_of([loop.student], evaluation, bench.teaching.precision)
    found = figures(logits, evaluation.split.targets)
    assert loop.accuracy() == pytest.approx(found["top1"])
    assert loop.student.training


def test_the_plain_loop_learns(bench):
    loop = bench.plain["kd"]
    images, targets, index = loop.next_batch()
    losses = [loop._step(images, targets, index)[0] for _ in range(8)]
    assert losses[-1] < losses[0]


def test_plain_images_are_normalised_and_their_crops_vary(bench):
    (image,), target, index = (images := bench.plain["kd"].images)[3]
    assert (target, index) == (images.targets[3], 3)
    assert image.shape == (3, 32, 32)
    black = (0 - torch.tensor(bench.dataset.mean)) / torch.tensor(bench.dataset.std)
    assert torch.allclose(image.amin(dim=(1, 2)), black, atol=1e-5)  # digits have black corners
    assert any(not torch.equal(images[3][0][0], image) for _ in range(5))


def test_both_loops_give_a_method_the_views_it_asks_for(bench):
    images, targets, index = bench.plain["mlkd"].next_batch()
    assert images.shape == (16, 3, 32, 32)  # two views of 8
    assert torch.equal(index[:8], index[8:])
    assert torch.equal(targets, bench.dataset.train.targets[index])
    assert not torch.equal(images[:8], images[8:])
    batches = TrainBatches(bench.dataset, 8, 0, bench.device)
    for image, sample in zip(images[::5], index[::5], strict=True):  # each is a crop of its sample
        candidates = batches.batch(Draw(sample.expand(81), torch.arange(81))).images
        assert (candidates - image).abs().amax(dim=(1, 2, 3)).min() < 1e-5
    one, other = bench.alone["mlkd"].views().values()
    assert torch.equal(one.index, other.index)
    assert not torch.equal(one.images, other.images)


@pytest.mark.parametrize("flip", [True, False])
def test_a_plain_loops_turned_views_are_those_of_ours(bench, flip):
    data = dataclasses.replace(
        bench.dataset, augmentation=dataclasses.replace(bench.dataset.augmentation, flip=flip)
    )
    batches, images = TrainBatches(data, 8, 0, bench.device), PlainImages(data, data.train, 4, turned=True)
    count = data.augmentation.num_crops
    everywhere = [
        batches.batch(Draw(torch.full((count,), 3), torch.arange(count), View(0, turns))).images
        for turns in range(4)
    ]
    mirrored = set()
    for _ in range(10):
        views, _, _ = images[3]
        crops = [
            (candidates - view).abs().amax(dim=(1, 2, 3))
            for candidates, view in zip(everywhere, views, strict=True)
        ]
        assert all(crop.min() < 1e-5 for crop in crops)
        (way,) = {int(crop.argmin()) % 2 if flip else 0 for crop in crops}  # all four are mirrored, or none
        mirrored.add(way)
    assert len(mirrored) == 1 + flip


def test_operations_are_a_teacher_forward_and_a_student_forward_and_backward(bench):
    macs = costs.cost("resnet8", INFO["digits"]).macs
    counted = operations(bench.alone["kd"])
    # The backward pass is twice the forward one, but for the first layer, whose images need no gradient.
    assert 0.9 * 4 < counted / (2 * 8 * macs) < 4
