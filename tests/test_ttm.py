"""TTM and WTTM against their definitions and the paper's identities."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import NUM_CLASSES, TARGETS, make, random_logits, softmax, student_features, teacher_features, terms_of
from hypothesis import given
from hypothesis import strategies as st

import methods
from methods import FeatureSpec, InvalidSetting, configure
from methods.kd import kd_loss
from methods.ttm import TUNED, TUNED_WEIGHTED, ttm_loss


def reference(student, teacher, exponent, weighted):
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        q, powers = softmax(s), [p**exponent for p in softmax(t)]
        divergence = 0.0
        for k, power in enumerate(powers):
            p = power / sum(powers)
            divergence += p * np.log(p / q[k])
        total += divergence * (sum(powers) if weighted else 1.0)
    return total / len(student)


both = pytest.mark.parametrize("weighted", [False, True])


@both
@pytest.mark.parametrize("exponent", [0.1, 0.3, 1.0])
def test_is_the_divergence_from_the_transformed_teacher(exponent, weighted):
    student, teacher = random_logits(0), random_logits(1)
    expected = reference(student, teacher, exponent, weighted)
    assert ttm_loss(student, teacher, exponent, weighted).item() == pytest.approx(expected, rel=1e-12)


def test_is_kd_less_a_renyi_entropy_of_the_student():
    """Equation 15: D(p_T ‖ q) = T D(p_T ‖ q_T) − (T − 1) (H_{1/T}(q) − H(p_T)), H_{1/T} Rényi's entropy."""
    student, teacher, temperature = random_logits(0), random_logits(1), 4.0
    renyi = shannon = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        renyi += np.log((softmax(s) ** (1 / temperature)).sum()) / (1 - 1 / temperature) / 5
        p = softmax(t / temperature)
        shannon -= (p * np.log(p)).sum() / 5
    kd = kd_loss(student, teacher, temperature).item() / temperature**2
    expected = temperature * kd - (temperature - 1) * (renyi - shannon)
    assert ttm_loss(student, teacher, 1 / temperature).item() == pytest.approx(expected, rel=1e-10)


@both
def test_is_kd_without_temperature_at_exponent_1(weighted):
    """Where the power sum is 1 as well."""
    torch.testing.assert_close(
        ttm_loss(random_logits(0), random_logits(1), 1.0, weighted),
        kd_loss(random_logits(0), random_logits(1), 1.0),
    )


@both
def test_is_zero_where_the_student_is_the_transformed_teacher(weighted):
    teacher = random_logits(1)
    assert ttm_loss(0.3 * teacher, teacher, 0.3, weighted).item() == pytest.approx(0, abs=1e-14)
    assert ttm_loss(teacher, teacher, 0.3, weighted) > 0.1


def test_the_weight_goes_from_1_for_a_certain_teacher_to_a_power_of_the_classes():
    student = random_logits(0, batch=1)
    certain, ignorant = torch.zeros_like(student), torch.zeros_like(student)
    certain[0, 2] = 1e4
    for teacher, weight in ((certain, 1.0), (ignorant, 7**0.8)):
        ratio = ttm_loss(student, teacher, 0.2, weighted=True) / ttm_loss(student, teacher, 0.2)
        assert ratio.item() == pytest.approx(weight, rel=1e-12)


def test_gradient_is_the_difference_of_probabilities_times_the_weight():
    student, teacher = random_logits(0).requires_grad_(), random_logits(1)
    ttm_loss(student, teacher, 0.3, weighted=True).backward()
    expected = []
    for s, t in zip(student.detach().numpy(), teacher.numpy(), strict=True):
        powers = softmax(t) ** 0.3
        expected.append(powers.sum() * (softmax(s) - powers / powers.sum()) / 5)
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


@both
@given(shift_student=st.floats(-50, 50), shift_teacher=st.floats(-50, 50), seed=st.integers(0, 99))
def test_ignores_shifts_of_the_logits(weighted, shift_student, shift_teacher, seed):
    student, teacher = random_logits(seed), random_logits(seed + 100)
    shifted = ttm_loss(student + shift_student, teacher + shift_teacher, 0.2, weighted)
    torch.testing.assert_close(shifted, ttm_loss(student, teacher, 0.2, weighted), rtol=1e-8, atol=1e-11)


@both
@pytest.mark.parametrize("size", [1, 5])
def test_stays_finite_for_extreme_logits(weighted, size):
    student = (1e4 * random_logits(0, batch=size).sign()).float().requires_grad_()
    loss = ttm_loss(student, (1e4 * random_logits(1, batch=size).sign()).float(), 0.1, weighted)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_small_probabilities_do_not_underflow_before_their_power_is_taken():
    student, teacher = random_logits(0), random_logits(1, scale=80.0)
    assert (torch.softmax(teacher.float(), dim=1) == 0).any()
    exact = reference(student, teacher, 0.1, weighted=False)
    assert ttm_loss(student.float(), teacher.float(), 0.1).item() == pytest.approx(exact, rel=1e-5)


@both
def test_the_method_uses_its_settings(weighted):
    student, teacher = student_features(), teacher_features()
    method = make("ttm", student, teacher, exponent=0.25, weighted=weighted)
    expected = reference(student.logits, teacher.logits, 0.25, weighted)
    assert terms_of(method, student, teacher)["ttm"].item() == pytest.approx(expected, rel=1e-12)


def test_the_weighted_variant_has_a_pairs_settings_of_its_own():
    assert TUNED.keys() == TUNED_WEIGHTED.keys()
    for pair, exponent, weight in (("vgg13_vgg8", 0.1, 2.25), ("resnet32x4_shufflev2", 0.4, 16.0)):
        config = configure("ttm", weighted=True).for_pair(pair, ())
        assert (config.exponent, config.weights["ttm"]) == (exponent, weight)
        assert configure("ttm").for_pair(pair, ()).weights["ttm"] > 2 * weight


def test_both_networks_must_know_the_same_classes():
    student, teacher = FeatureSpec.of(student_features()), FeatureSpec.of(teacher_features())
    teacher = dataclasses.replace(teacher, logits=NUM_CLASSES + 1)
    with pytest.raises(InvalidSetting, match="classes"):
        methods.create("ttm", student, teacher, num_classes=NUM_CLASSES, targets=TARGETS)
