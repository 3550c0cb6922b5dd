"""SDD's cells, which of them are complementary, and their divergence, against loops; and where it is KD."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    NUM_CLASSES,
    TARGET,
    Headed,
    block_mean,
    draw,
    make,
    softmax,
    student_features,
    teacher_features,
    terms_of,
    with_grad,
)
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import models
from methods.kd import kd_loss
from methods.sdd import cell_logits, cells, complementary, sdd_loss


def local_logits(features, head, scales):
    """The logits of every cell, `[B, N, K]`: of the whole image the network's own."""
    weight, bias = (parameter.detach().numpy() for parameter in (head.weight, head.bias))
    found = []
    for scale in scales:
        if scale == 1:
            found.append(features.logits.numpy())
            continue
        final = features.final.numpy()
        repeats = max(1, scale // final.shape[-1])
        means = block_mean(np.kron(final, np.ones((1, 1, repeats, repeats))), scale)
        found += [means[:, :, i, j] @ weight.T + bias for i, j in np.ndindex(scale, scale)]
    return np.stack(found, axis=1)


def reference(student, teacher, config):
    ours = local_logits(student, Headed(student, seed=2).head, config.scales)
    theirs = local_logits(teacher, Headed(teacher, seed=1).head, config.scales)
    total = 0.0
    for b, n in np.ndindex(ours.shape[:2]):
        label = TARGET[b].item()
        image_right = teacher.logits[b].argmax().item() == label
        cell_right = theirs[b, n].argmax() == label
        weight = 1.0 if image_right == cell_right else config.beta
        s, t = ours[b, n], theirs[b, n]
        if config.standardise:
            s, t = ((x - x.mean()) / np.sqrt(x.var() + 1e-7) for x in (s, t))
        q, p = softmax(s / config.temperature), softmax(t / config.temperature)
        total += weight * (p * np.log(p / q)).sum() * config.temperature**2
    return total / ours.shape[0] / ours.shape[1]


@pytest.mark.parametrize("z_scores", [False, True])
@pytest.mark.parametrize("scales", [[1], [1, 2], [1, 2, 4], [4, 8]])
def test_is_the_weighted_divergence_of_all_cells(scales, z_scores):
    student, teacher = student_features(sides=(8, 8, 4, 2)), teacher_features(sides=(8, 8, 8, 8))
    settings = {"scales": scales, "beta": 3.0, "temperature": 2.5, "standardise": z_scores}
    method = make("sdd", student, teacher, **settings)
    expected = reference(student, teacher, method.config)
    assert terms_of(method, student, teacher)["sdd"].item() == pytest.approx(expected, rel=1e-9)


def test_is_kd_on_the_whole_image_alone():
    student, teacher = student_features(), teacher_features()
    for beta in (1.0, 2.0):  # the image's own prediction is never complementary to itself
        method = make("sdd", student, teacher, scales=[1], beta=beta)
        found = terms_of(method, student, teacher)["sdd"]
        torch.testing.assert_close(found, kd_loss(student.logits, teacher.logits, 4.0))


@pytest.mark.parametrize("scale", [1, 2, 4, 8, 16])
def test_cells_are_those_of_adaptive_pooling_whichever_is_finer(scale):
    for side in (2, 4, 8):
        final = draw(0, 3, 5, side, side)
        expected = F.adaptive_avg_pool2d(final, scale).flatten(2).transpose(1, 2)
        torch.testing.assert_close(cells(final, scale), expected)


@pytest.mark.parametrize("name", ["vgg8", "wrn_16_2", "MobileNetV2", "ShuffleV1"])
def test_a_networks_logits_are_the_means_of_its_cells(name):
    network = models.create(name, 7).eval()
    with torch.no_grad():
        features = network.features(torch.randn(2, 3, 32, 32))
        logits = cell_logits(features, network.head.weight, network.head.bias, [1, 2, 4])
    assert torch.equal(logits[:, 0], features.logits)
    for part in (logits[:, 1:5], logits[:, 5:]):
        torch.testing.assert_close(part.mean(dim=1), features.logits, rtol=1e-4, atol=1e-5)


def test_complementary_are_cells_judged_otherwise_than_the_image():
    target = torch.tensor([0, 0])
    right, wrong, wrong_too = torch.eye(3)
    images = torch.stack([right, wrong])
    parts = torch.stack([right, wrong, wrong_too]).expand(2, 3, 3)
    assert complementary(parts, images, target).tolist() == [[False, True, True], [True, False, False]]


@given(seed=st.integers(0, 50), temperature=st.floats(0.5, 8))
def test_is_zero_where_the_cells_agree_alone(seed, temperature):
    teacher, weights = draw(seed, 4, 5, 6), draw(seed + 1, 4, 5).abs() + 0.1
    shift = draw(seed + 2, 4, 5, 1)
    assert sdd_loss(teacher + shift, teacher, weights, temperature).item() == pytest.approx(0, abs=1e-12)
    assert sdd_loss(draw(seed + 3, 4, 5, 6), teacher, weights, temperature).item() > 0


def test_regions_count_where_the_whole_image_agrees():
    """Two networks with the same logits and the same heads, whose maps hold the same in other places."""
    student = student_features()
    teacher = dataclasses.replace(student, final=student.final.flip(dims=(2,)))
    method = make("sdd", student, teacher, scales=[1, 2])
    method.prepare(Headed(student, seed=2), Headed(student, seed=2))
    assert terms_of(method, student, teacher)["sdd"] > 0.01
    assert terms_of(method, student, student)["sdd"].item() == pytest.approx(0, abs=1e-12)


def test_beta_weighs_the_complementary_cells():
    student, teacher = student_features(), teacher_features()
    losses = [
        terms_of(make("sdd", student, teacher, beta=beta), student, teacher)["sdd"].item()
        for beta in (0.0, 1.0, 2.0)
    ]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0])
    assert losses == sorted(losses)
    assert losses[0] > 0


def test_the_term_reaches_map_and_head_of_the_student_alone():
    student, teacher = with_grad(student_features()), teacher_features()
    method = make("sdd", student, teacher)
    heads = Headed(teacher, seed=1), Headed(student, seed=2)
    method.prepare(*heads)
    terms_of(method, student, teacher)["sdd"].backward()
    assert student.final.grad.any()
    assert student.logits.grad.any()
    assert heads[1].head.weight.grad.any()
    assert heads[1].head.bias.grad.any()
    assert heads[0].head.weight.grad is None
    assert not list(method.parameters())
    assert not any("head" in name for name in method.state_dict())


def test_extreme_logits_are_finite():
    student = (1e4 * draw(0, 3, 5, NUM_CLASSES).sign()).float().requires_grad_()
    loss = sdd_loss(student, (1e4 * draw(1, 3, 5, NUM_CLASSES).sign()).float(), torch.ones(3, 5), 1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
