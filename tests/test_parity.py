"""What is fast must learn the same: accuracies of the fast paths against the plain one, over seeds."""

import statistics

import pytest
import torch
from commands import result

from benchmarks import distillation

pytestmark = pytest.mark.slow

SEEDS = range(3)
# Long enough that students of digits come near their best, where seeds differ by a point or two.
LONG = ("method=kd", "train.epochs=12", "train.max_steps=null", "train.milestones=[9]", "teacher.epochs=12")


@pytest.fixture
def accuracies(distil, tmp_path):
    """Trains one student a seed with some settings and returns their test top-1, in percent."""

    def train(name, *settings):
        store = f"teacher.root={tmp_path / 'teachers'}"
        folders = [tmp_path / name / str(seed) for seed in SEEDS]
        for seed, folder in zip(SEEDS, folders, strict=True):
            assert distil(*LONG, *settings, store, f"seed={seed}", f"output={folder}") == 0
        return [result(folder, "kd")["summary"]["test/top1_last"] for folder in folders]

    return train


@pytest.fixture
def plain(accuracies, monkeypatch):
    """Float32 under a teacher as it is."""
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "fold_batch_norms", lambda network: network)
        return accuracies("plain")


def like(fast, plain):
    """Equal on average within the spread of seeds, or one image of the 70."""
    assert statistics.mean(plain) > 60  # they have learned at all: chance is 10
    return abs(statistics.mean(fast) - statistics.mean(plain)) <= max(max(plain) - min(plain), 100 / 70)


def test_students_of_a_folded_teacher_are_as_accurate(accuracies, plain):
    assert like(accuracies("folded"), plain)


@pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="this processor emulates bf16, twenty times more slowly"
)
def test_students_in_bf16_are_as_accurate(accuracies, plain):
    assert like(accuracies("bf16", "train.precision=bf16"), plain)
