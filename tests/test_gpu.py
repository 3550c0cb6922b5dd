"""What only a CUDA device can show; the same on the CPU is in test_run.py and test_launcher.py."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from commands import InjectedConfig, injected, interrupted_at, result, same

import methods
from benchmarks.training.build import build_network, frozen
from benchmarks.training.examining import network_objection
from benchmarks.training.graphs import SOUND
from benchmarks.training.teaching import Teaching
from methods import Method

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
# Steps of 24 of 400 images: most are replayed, and a short one ends the epoch.
FREE = ("train.device=cuda", "train.batch_size=24", "train.max_steps=17")
GPU = (*FREE, "train.deterministic=true")


@pytest.fixture(autouse=True)
def nondeterministic_again():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def replays(monkeypatch):
    """Grows with every replay."""
    found, replay = [], torch.cuda.CUDAGraph.replay

    def counted(graph):
        found.append(graph)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    return found


def weights(folder, label):
    (path,) = folder.glob(f"*/{label}/*/student.safetensors")
    return safetensors.torch.load_file(path)


def assert_same(first, second, label):
    one, other = weights(first, label), weights(second, label)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", methods.available())
def test_a_student_is_bit_identical_alone_and_in_a_cohort(distil, tmp_path, method):
    others = "none" if method != "none" else "kd"
    assert distil(*GPU, f"method={method}", f"output={tmp_path / 'alone'}") == 0
    assert distil(*GPU, f"methods=[{others},{method}]", f"output={tmp_path / 'cohort'}") == 0
    assert_same(tmp_path / "alone", tmp_path / "cohort", method)


# Replayed steps


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", methods.available())
def test_replayed_steps_are_launched_ones_to_the_bit(distil, tmp_path, method, precision, replays, capsys):
    words = (*GPU, f"method={method}", f"train.precision={precision}")
    assert distil(*words, f"output={tmp_path / 'replayed'}") == 0
    assert "launched one by one" not in capsys.readouterr().out
    assert len(replays) > 20
    assert distil(*words, "train.graph=false", f"output={tmp_path / 'launched'}") == 0
    assert_same(tmp_path / "replayed", tmp_path / "launched", method)


@pytest.mark.parametrize(
    "words", [("methods=[none,kd,crd,mlkd,ft,aftkd]",), ("methods=[kd,aftkd]", "train.optimizer=dot")], ids=len
)
def test_a_cohort_is_replayed_side_by_side(distil, tmp_path, words, replays):
    assert distil(*GPU, *words, f"output={tmp_path / 'replayed'}") == 0
    assert len(replays) > 20
    assert distil(*GPU, *words, "train.graph=false", f"output={tmp_path / 'launched'}") == 0
    for label in ("kd", "aftkd"):
        assert_same(tmp_path / "replayed", tmp_path / "launched", label)


def test_a_short_batch_that_ends_the_epoch_is_replayed_too(distil, tmp_path, replays):
    words = (*GPU, "methods=[kd,crd]", "train.epochs=5", "train.milestones=[4]")
    assert distil(*words, f"output={tmp_path / 'replayed'}") == 0
    assert len(set(replays)) == 2
    assert len(replays) == 5 * 17 - 2 * 2  # all but the first two of each length
    assert distil(*words, "train.graph=false", f"output={tmp_path / 'launched'}") == 0
    for label in ("kd", "crd"):
        assert_same(tmp_path / "replayed", tmp_path / "launched", label)


def test_looked_up_outputs_are_replayed_too(distil, tmp_path, replays):
    assert distil(*GPU, "method=crd", "teacher.views=embedding", f"output={tmp_path / 'known'}") == 0
    assert replays
    assert distil(*GPU, "method=crd", "teacher.views=none", f"output={tmp_path / 'looked'}") == 0
    assert_same(tmp_path / "known", tmp_path / "looked", "crd")


def test_an_interrupted_training_goes_on_replaying(distil, tmp_path, replays):
    assert distil(*GPU, "method=crd", f"output={tmp_path / 'whole'}") == 0
    with interrupted_at(9):
        assert distil(*GPU, "method=crd", f"output={tmp_path / 'parts'}") == 143
    assert distil(*GPU, "method=crd", f"output={tmp_path / 'parts'}") == 0
    assert_same(tmp_path / "whole", tmp_path / "parts", "crd")


def test_kernels_in_any_order_are_replayed_as_well(distil, tmp_path, replays, capsys):
    """Without determinism a step may end elsewhere by rounding, and is replayed all the same."""
    assert distil(*FREE, "methods=[kd,crd,aftkd]", "train.precision=bf16", f"output={tmp_path}") == 0
    assert "launched one by one" not in capsys.readouterr().out
    assert len(replays) > 20
    assert result(tmp_path, "aftkd")["history"][-1]["train/top1"] > 15  # of ten classes


def test_compiled_kernels_learn_the_same(distil, tmp_path, replays, capsys):
    words = (*FREE, "train.precision=bf16", "methods=[none,kd,crd,simkd,aftkd]")
    assert distil(*words, "train.compile=true", f"output={tmp_path / 'compiled'}") == 0
    assert "torch's own kernels" not in capsys.readouterr().out
    assert len(replays) > 20
    assert distil(*words, "train.compile=false", f"output={tmp_path / 'own'}") == 0
    for label in ("kd", "crd", "aftkd"):
        one, other = (result(tmp_path / each, label)["history"][-1] for each in ("compiled", "own"))
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=0.1)
    assert not same(
        weights(tmp_path / "compiled", "kd"), weights(tmp_path / "own", "kd")
    )  # other kernels they were


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["vgg8", "resnet20", "wrn_16_2", "MobileNetV2", "ShuffleV1", "ShuffleV2"])
def test_compiled_networks_show_and_learn_the_same(name, bf16):
    device = torch.device("cuda")
    images = torch.randn(64, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    precision = torch.autocast("cuda", torch.bfloat16, enabled=bf16)
    for network in (build_network(name, 10, 0, device), frozen(build_network(name, 10, 0, device))):
        assert network_objection(network, images, frozenset({"stages", "preacts"}), precision) is None


@pytest.mark.parametrize("method", methods.available())
def test_compiled_losses_and_their_gradients_are_the_same(distil, tmp_path, capsys, method):
    """Else the run would say that it does without."""
    assert distil(*FREE, f"method={method}", "train.compile=true", f"output={tmp_path}") == 0
    assert "torch's own kernels" not in capsys.readouterr().out


# Steps that cannot be


class Reading(Method[InjectedConfig]):
    """Reads a value back, as many implementations do."""

    needs = frozenset({"logits"})

    def forward(self, student, teacher, target, index):
        return {"injected": student.logits.square().mean() * (1 + teacher.logits[0, 0].item() ** 2)}


def test_a_step_that_needs_the_host_is_launched_and_said_where(distil, tmp_path, capsys, replays):
    with injected(Reading):
        assert distil(*GPU, "methods=[injected,kd]", f"output={tmp_path / 'read'}") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "launched one by one, not replayed as a CUDA graph: aten::" in said
    assert not replays
    assert distil(*GPU, "method=kd", f"output={tmp_path / 'replayed'}") == 0
    assert_same(tmp_path / "read", tmp_path / "replayed", "kd")


@pytest.mark.skipif(torch.__version__ < SOUND, reason=f"behind it, torch before {SOUND} can record nothing more")
def test_a_step_that_fails_while_it_is_recorded_is_launched(distil, tmp_path, monkeypatch, capsys):
    """What no check foresees: the device refuses and goes on as if nothing had been."""

    def refusing(self, *arguments):
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize()
        return shows(self, *arguments)

    shows = Teaching.shows
    with monkeypatch.context() as patch:
        patch.setattr(Teaching, "shows", refusing)
        status = distil(*GPU, "methods=[crd,kd]", f"output={tmp_path / 'refused'}")
    assert status == 0
    assert "launched one by one" in capsys.readouterr().out
    assert distil(*GPU, "methods=[crd,kd]", f"output={tmp_path / 'replayed'}") == 0
    assert_same(tmp_path / "refused", tmp_path / "replayed", "crd")
