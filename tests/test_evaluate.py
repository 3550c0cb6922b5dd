"""What an evaluation makes of logits, against plain references: accuracy, calibration, fidelity."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from students import batches, member

from benchmarks.training.evaluate import figures


def logits_of(rows, classes, seed, scale=3.0):
    return scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def labels_of(rows, classes, seed):
    return torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))


def calibration_error(logits, targets, bins=15):
    """Bin by bin, from the definition: |accuracy − confidence|, weighed by the bin's share of the samples."""
    chances = softmax(logits.double().numpy(), axis=1)
    confidence, hits = chances.max(axis=1), chances.argmax(axis=1) == targets.numpy()
    error = 0.0
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(hits[inside].mean() - confidence[inside].mean())
    return 100 * error


@given(st.integers(1, 60), st.sampled_from([2, 7, 100]), st.integers(0, 99), st.floats(0.1, 30))
def test_figures_follow_their_definitions(rows, classes, seed, scale):
    ours, theirs = (logits_of(rows, classes, seed + k, scale) for k in (0, 1000))
    targets = labels_of(rows, classes, seed)
    found = figures(ours, targets, theirs)
    student, teacher = ours.double().numpy(), theirs.double().numpy()
    order = np.argsort(-student, axis=1)
    place = np.argmax(order == targets.numpy()[:, None], axis=1)
    expected = {
        "loss": -log_softmax(student, axis=1)[np.arange(rows), targets].mean(),
        "top1": 100 * (place == 0).mean(),
        "top5": 100 * (place < 5).mean(),
        "ece": calibration_error(ours, targets),
        "agreement": 100 * (student.argmax(axis=1) == teacher.argmax(axis=1)).mean(),
        "teacher_kl": entropy(softmax(teacher, axis=1), softmax(student, axis=1), axis=1).mean(),
    }
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert figures(ours, targets) == {name: found[name] for name in ("loss", "top1", "top5", "ece")}


@given(st.integers(0, 99))
def test_a_network_agrees_with_itself(seed):
    """Also where bfloat16 makes the best two logits equal."""
    logits = logits_of(50, 10, seed).bfloat16().float()
    logits[:, 3] = logits[:, 7] = logits.amax(dim=1) + 1
    found = figures(logits, labels_of(50, 10, seed), logits.clone())
    assert found["agreement"] == 100
    assert found["teacher_kl"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("confidence", "accuracy"), [(0.9, 0.9), (0.9, 0.5), (0.3, 0.8)])
def test_the_calibration_error_is_how_far_confidence_is_from_accuracy(confidence, accuracy):
    rows, classes = 100, 5
    logits = torch.zeros(rows, classes)
    logits[:, 0] = math.log(confidence / ((1 - confidence) / (classes - 1)))
    targets = (torch.arange(rows) >= accuracy * rows).long()
    assert figures(logits, targets)["ece"] == pytest.approx(100 * abs(confidence - accuracy), abs=1e-4)


def test_certainty_is_no_bin_of_its_own():
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    assert figures(logits, torch.tensor([0, 1]))["ece"] == 0
    assert figures(logits, torch.tensor([1, 0]))["ece"] == 100


@pytest.mark.parametrize("name", ["at", "aftkd", "simkd"])
def test_no_map_is_shown_but_those_that_logits_depend_on(name):
    """An evaluation need not convert others to float32, and the logits are the training's to the bit."""
    student, images = member(name), batches().probe(4).images
    student.classifier.eval()
    with torch.no_grad():
        shown, all_shown = (student.classifier.features(images, needs) for needs in (None, student.method.needs))
    assert bool(shown.stages or shown.final is not None) == student.method.predicts
    assert torch.equal(shown.logits, all_shown.logits)
