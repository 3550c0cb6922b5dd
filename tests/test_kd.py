"""Hinton's KD against its definition and its known properties."""

import numpy as np
import pytest
import torch
from helpers import make, random_logits, softmax, student_features, teacher_features, terms_of
from hypothesis import given
from hypothesis import strategies as st

import methods
from benchmarks.pairs import PAIRS
from methods import configure
from methods.kd import STANDARDISED, kd_loss


def kd_reference(student, teacher, temperature):
    total = 0.0
    for row_student, row_teacher in zip(student, teacher, strict=True):
        q, p = softmax(row_student / temperature), softmax(row_teacher / temperature)
        total += sum(p[k] * np.log(p[k] / q[k]) for k in range(len(p)))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [1.0, 2.5, 4.0])
def test_is_the_scaled_divergence(temperature):
    student, teacher = random_logits(0), random_logits(1)
    expected = kd_reference(student.numpy(), teacher.numpy(), temperature)
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_is_temperature_times_the_difference_of_probabilities():
    student, teacher, temperature = random_logits(0).requires_grad_(), random_logits(1), 4.0
    kd_loss(student, teacher, temperature).backward()
    rows = zip(student.detach().numpy(), teacher.numpy(), strict=True)
    expected = [temperature * (softmax(s / temperature) - softmax(t / temperature)) / 5 for s, t in rows]
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_tends_to_half_the_class_variance_of_the_logit_difference():
    student, teacher = random_logits(0), random_logits(1)
    limit = (student - teacher).numpy().var(axis=1).mean() / 2
    assert kd_loss(student, teacher, 1e4).item() == pytest.approx(limit, rel=1e-3)


def test_equals_target_plus_non_target_knowledge():
    """KL = TCKD + (1 − p_t) · NCKD (Zhao et al., CVPR 2022), whichever class is called the target."""
    student, teacher = random_logits(0), random_logits(1)
    for k in range(student.shape[1]):
        total = 0.0
        for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
            q, p = softmax(s), softmax(t)
            target = p[k] * np.log(p[k] / q[k]) + (1 - p[k]) * np.log((1 - p[k]) / (1 - q[k]))
            p_others, q_others = softmax(np.delete(t, k)), softmax(np.delete(s, k))
            total += target + (1 - p[k]) * (p_others * np.log(p_others / q_others)).sum()
        assert kd_loss(student, teacher, 1.0).item() == pytest.approx(total / len(student), rel=1e-10)


def test_is_zero_at_equality_and_positive_elsewhere():
    student, teacher = random_logits(0), random_logits(1)
    assert kd_loss(student, student, 4.0).item() == pytest.approx(0, abs=1e-14)
    assert kd_loss(student, teacher, 4.0) > 0.1
    assert kd_loss(student, teacher, 4.0) != kd_loss(teacher, student, 4.0)


@given(shift_student=st.floats(-50, 50), shift_teacher=st.floats(-50, 50), seed=st.integers(0, 99))
def test_ignores_shifts_of_the_logits(shift_student, shift_teacher, seed):
    student, teacher = random_logits(seed), random_logits(seed + 100)
    shifted = kd_loss(student + shift_student, teacher + shift_teacher, 4.0)
    torch.testing.assert_close(shifted, kd_loss(student, teacher, 4.0), rtol=1e-8, atol=1e-11)


def test_stays_finite_for_extreme_logits():
    student = (1e4 * random_logits(0)).float().requires_grad_()
    loss = kd_loss(student, (1e4 * random_logits(1)).float(), 1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_standardised_logits_have_a_temperature_and_a_weight_of_their_own():
    """As named by the logs of the authors of logit standardisation."""
    for pair, temperature, weight in (
        ("resnet32x4_resnet8x4", 2, 9),
        ("vgg13_vgg8", 3, 9),
        ("resnet110_resnet20", 4, 12),
        ("resnet50_mobilenetv2", 3, 1),
    ):
        config = configure("kd", standardise=True).for_pair(pair, ())
        assert (config.temperature, config.weights) == (temperature, {"ce": 0.1, "kd": weight})
        assert configure("kd").for_pair(pair, ()) == configure("kd")


def test_a_temperature_of_ones_own_counts_for_standardised_logits():
    config = configure("kd", standardise=True, temperature=4.0).for_pair("vgg13_vgg8", ["temperature"])
    assert (config.temperature, config.weights["kd"]) == (4, 9)


def test_every_pair_has_a_setting_for_standardised_logits():
    assert STANDARDISED.keys() == PAIRS.keys()


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.0}], ids=str)
def test_the_method_uses_its_temperature(settings):
    student, teacher = student_features(), teacher_features()
    expected = kd_reference(student.logits.numpy(), teacher.logits.numpy(), settings.get("temperature", 4.0))
    found = terms_of(make("kd", student, teacher, **settings), student, teacher)["kd"]
    assert found.item() == pytest.approx(expected, rel=1e-12)


CARRYING = [
    name
    for name in methods.available()
    # Elsewhere the term is of the logits that the method predicts with.
    if "kd" in methods.configure(name).weights and methods.get(name).predict is methods.Method.predict
]


@pytest.mark.parametrize("name", CARRYING)
def test_is_the_same_term_beside_other_methods(name):
    student, teacher = student_features(), teacher_features(channels=(3, 4, 6, 5))
    method = make(name, student, teacher, weights={"kd": 1.0}, temperature=3.0)
    upright = (method.labelled(shown.logits).numpy() for shown in (student, teacher))
    found = terms_of(method, student, teacher)["kd"]
    assert found.item() == pytest.approx(kd_reference(*upright, 3.0), rel=1e-12)
