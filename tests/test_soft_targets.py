"""What replaces or refines Hinton's KD against its definition, class by class: DKD, NKD, DIST and others."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    INDEX,
    NUM_CLASSES,
    TARGET,
    make,
    random_logits,
    softmax,
    student_features,
    teacher_features,
    terms_of,
)
from hypothesis import given
from hypothesis import strategies as st

import methods
from methods import DistillConfig, InvalidSetting, get
from methods.abkd import ab_divergence
from methods.dist import pearson_distance
from methods.dkd import nckd_loss, other_classes, tckd_loss
from methods.kd import kd_loss, standardise
from methods.nkd import others_loss, target_loss
from methods.wsld import sample_weights, wsld_loss

LABELS = torch.tensor([0, 6, 3, 3, 1])


def samples(*batches):
    return zip(*(batch.numpy() for batch in batches), strict=True)


# DKD
def tckd_reference(student, teacher, labels, temperature):
    total = 0.0
    for s, t, k in samples(student, teacher, labels):
        q, p = softmax(s / temperature)[k], softmax(t / temperature)[k]
        total += p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * total / len(labels)


def nckd_reference(student, teacher, labels, temperature):
    total = 0.0
    for s, t, k in samples(student, teacher, labels):
        q, p = softmax(np.delete(s, k) / temperature), softmax(np.delete(t, k) / temperature)
        total += (p * np.log(p / q)).sum()
    return temperature**2 * total / len(labels)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_divides_the_divergence(temperature):
    student, teacher = random_logits(0), random_logits(1)
    expected = tckd_reference(student, teacher, LABELS, temperature)
    assert tckd_loss(student, teacher, LABELS, temperature).item() == pytest.approx(expected, rel=1e-10)
    expected = nckd_reference(student, teacher, LABELS, temperature)
    assert nckd_loss(student, teacher, LABELS, temperature).item() == pytest.approx(expected, rel=1e-10)


def test_dkds_parts_put_together_are_kd():
    """KD = TCKD + (1 − p_label) NCKD, for each sample."""
    student, teacher = random_logits(0), random_logits(1)
    for k in range(5):
        own = slice(k, k + 1)
        uncertainty = 1 - softmax(teacher[k].numpy() / 4)[LABELS[k]]
        label, others = (loss(student[own], teacher[own], LABELS[own], 4.0) for loss in (tckd_loss, nckd_loss))
        torch.testing.assert_close(kd_loss(student[own], teacher[own], 4.0), label + uncertainty * others)


def test_the_other_classes_keep_their_order():
    values = torch.arange(7.0).expand(5, 7)
    for row, label in zip(other_classes(values, LABELS), LABELS, strict=True):
        assert row.tolist() == [k for k in range(7) if k != label]


def test_dkd_vanishes_at_equality_and_stays_finite_for_certain_predictions():
    teacher = random_logits(1)
    assert tckd_loss(teacher, teacher, LABELS, 4.0).item() == pytest.approx(0, abs=1e-12)
    assert nckd_loss(teacher, teacher, LABELS, 4.0).item() == pytest.approx(0, abs=1e-12)
    student = (1e3 * random_logits(0)).float().requires_grad_()
    loss = sum(loss(student, (1e3 * teacher).float(), LABELS, 1.0) for loss in (tckd_loss, nckd_loss))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_dkd_uses_its_temperature():
    student, teacher = student_features(), teacher_features()
    terms = terms_of(make("dkd", student, teacher, temperature=2.0), student, teacher)
    for term, reference in (("tckd", tckd_reference), ("nckd", nckd_reference)):
        expected = reference(student.logits, teacher.logits, TARGET, 2.0)
        assert terms[term].item() == pytest.approx(expected, rel=1e-9)


# NKD
def test_nkd_is_two_cross_entropies():
    student, teacher, temperature = random_logits(0), random_logits(1), 3.0
    label = others = 0.0
    for s, t, k in samples(student, teacher, LABELS):
        label -= softmax(t)[k] * np.log(softmax(s)[k]) / 5
        q, p = softmax(np.delete(s, k) / temperature), softmax(np.delete(t, k) / temperature)
        others -= temperature**2 * (p * np.log(q)).sum() / 5
    assert target_loss(student, teacher, LABELS).item() == pytest.approx(label, rel=1e-10)
    assert others_loss(student, teacher, LABELS, temperature).item() == pytest.approx(others, rel=1e-10)


def test_nkds_others_differ_from_dkds_by_the_teachers_entropy_alone():
    first, second, teacher = random_logits(0), random_logits(2), random_logits(1)
    difference = others_loss(first, teacher, LABELS, 3.0) - others_loss(second, teacher, LABELS, 3.0)
    expected = nckd_loss(first, teacher, LABELS, 3.0) - nckd_loss(second, teacher, LABELS, 3.0)
    torch.testing.assert_close(difference, expected)


def test_nkd_softens_the_others_alone():
    student, teacher = student_features(), teacher_features()
    terms = terms_of(make("nkd", student, teacher, temperature=2.0), student, teacher)
    torch.testing.assert_close(terms["target"], target_loss(student.logits, teacher.logits, TARGET))
    torch.testing.assert_close(terms["others"], others_loss(student.logits, teacher.logits, TARGET, 2.0))


# DIST
def test_dist_is_the_correlation_by_sample_and_by_class():
    student, teacher = student_features(), teacher_features()
    q, p = (np.array([softmax(row / 4) for row in x.logits.numpy()]) for x in (student, teacher))
    inter = 16 * np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)])
    intra = 16 * np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)])
    terms = terms_of(make("dist", student, teacher), student, teacher)
    assert terms["inter"].item() == pytest.approx(inter, rel=1e-9)
    assert terms["intra"].item() == pytest.approx(intra, rel=1e-9)


@given(scale=st.floats(0.1, 10), shift=st.floats(-5, 5), seed=st.integers(0, 20))
def test_correlation_ignores_scale_and_shift(scale, shift, seed):
    first, second = random_logits(seed), random_logits(seed + 50)
    torch.testing.assert_close(pearson_distance(scale * first + shift, second), pearson_distance(first, second))
    assert pearson_distance(scale * first + shift, first).item() == pytest.approx(0, abs=1e-9)
    assert pearson_distance(-scale * first, first).item() == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize("term", ["inter", "intra"])
def test_dist_gives_rows_of_equal_logits_no_large_gradient(term):
    """A student that knows nothing yet: no direction to correct, and none that rounding should invent."""
    student, teacher = student_features(), teacher_features()
    for num_classes in (NUM_CLASSES, 100):  # equal values whose mean is not rounded to them
        flat = torch.zeros(6, num_classes, requires_grad=True)
        student = dataclasses.replace(student, logits=flat)
        teacher = dataclasses.replace(teacher, logits=random_logits(0, batch=6, classes=num_classes).float())
        terms_of(make("dist", student, teacher), student, teacher)[term].backward()
        assert flat.grad.abs().max() <= 1


# WSLD
def wsld_reference(student, teacher, labels, temperature):
    """Each sample's weight, and the loss."""
    weights, total = [], 0.0
    for s, t, k in samples(student, teacher, labels):
        ratio = np.log(softmax(s)[k]) / (np.log(softmax(t)[k]) - 1e-7)
        weights.append(1 - np.exp(-ratio))
        q, p = softmax(s / temperature), softmax(t / temperature)
        total += weights[-1] * sum(-p[j] * np.log(q[j]) for j in range(len(p)))
    return weights, temperature**2 * total / len(labels)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_wsld_is_a_cross_entropy_weighted_by_sample(temperature):
    student, teacher = random_logits(0), random_logits(1)
    weights, expected = wsld_reference(student, teacher, LABELS, temperature)
    np.testing.assert_allclose(sample_weights(student, teacher, LABELS).numpy(), weights, rtol=1e-10)
    assert wsld_loss(student, teacher, LABELS, temperature).item() == pytest.approx(expected, rel=1e-10)


def test_wslds_gradient_is_kds_times_the_weight():
    """The weight itself passes no gradient on."""
    student, teacher = random_logits(0).requires_grad_(), random_logits(1)
    wsld_loss(student, teacher, LABELS, 4.0).backward()
    weights, _ = wsld_reference(student.detach(), teacher, LABELS, 4.0)
    for k, weight in enumerate(weights):
        row = student.detach()[k : k + 1].clone().requires_grad_()
        kd_loss(row, teacher[k : k + 1], 4.0).backward()
        torch.testing.assert_close(student.grad[k], weight * row.grad[0] / 5)


@given(shift_student=st.floats(-50, 50), shift_teacher=st.floats(-50, 50), seed=st.integers(0, 99))
def test_wsld_ignores_shifts_of_the_logits(shift_student, shift_teacher, seed):
    student, teacher = random_logits(seed), random_logits(seed + 100)
    shifted = wsld_loss(student + shift_student, teacher + shift_teacher, LABELS, 4.0)
    torch.testing.assert_close(shifted, wsld_loss(student, teacher, LABELS, 4.0), rtol=1e-6, atol=1e-9)


def test_wsld_weighs_by_who_predicts_better():
    certain, unsure = torch.zeros(1, 7), torch.zeros(1, 7)
    certain[0, 3], unsure[0, 3] = 40.0, 1.0
    label = torch.tensor([3])
    assert sample_weights(certain, unsure, label) == 0
    assert sample_weights(unsure, certain, label) == 1
    assert sample_weights(unsure, unsure, label).item() == pytest.approx(1 - np.exp(-1), rel=1e-6)
    assert sample_weights(certain, certain, label) == 0


@pytest.mark.parametrize("size", [1, 5])
def test_wsld_stays_finite_for_certain_predictions(size):
    for seed in range(5):
        student = (1e4 * random_logits(seed, batch=size).sign()).float().requires_grad_()
        teacher = (1e4 * random_logits(seed + 10, batch=size).sign()).float()
        loss = wsld_loss(student, teacher, LABELS[:size], 4.0)
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()


def test_wsld_uses_its_temperature():
    student, teacher = student_features(), teacher_features()
    for temperature in (4.0, 2.0):
        method = make("wsld", student, teacher, temperature=temperature)
        _, expected = wsld_reference(student.logits, teacher.logits, TARGET, temperature)
        assert terms_of(method, student, teacher)["wsld"].item() == pytest.approx(expected, rel=1e-9)


# Standardisation
def zscore(row):
    return (row - row.mean()) / np.sqrt(((row - row.mean()) ** 2).mean())


def test_standardised_logits_have_mean_0_and_deviation_1():
    expected = [zscore(row) for row in random_logits(0).numpy()]
    np.testing.assert_allclose(standardise(random_logits(0)).numpy(), expected, rtol=1e-6)


def test_standardising_a_constant_row_has_a_finite_gradient():
    row = torch.full((2, 5), 3.0, requires_grad=True)
    (standardise(row) * torch.arange(5.0)).sum().backward()
    assert row.grad.isfinite().all()


# ABKD
def ab_reference(student, teacher, temperature, alpha, beta):
    total = 0.0
    for s, t in samples(student, teacher):
        for q, p in zip(softmax(s / temperature), softmax(t / temperature), strict=True):
            both = alpha / (alpha + beta) * p ** (alpha + beta) + beta / (alpha + beta) * q ** (alpha + beta)
            total += (both - p**alpha * q**beta) / (alpha * beta)
    return total / len(student)


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.3), (1.2, 0.7), (0.1, 1.0)])
def test_abkd_is_the_divergence_of_softened_probabilities(alpha, beta):
    student, teacher = student_features(), teacher_features()
    for temperature in (4.0, 2.0):
        method = make("abkd", student, teacher, temperature=temperature, alpha=alpha, beta=beta)
        expected = ab_reference(student.logits, teacher.logits, temperature, alpha, beta)
        assert terms_of(method, student, teacher)["abkd"].item() == pytest.approx(expected, rel=1e-9)


def log_probabilities(seed):
    return random_logits(seed).log_softmax(dim=1)


@pytest.mark.parametrize("exponent", [1.0, 0.6])
def test_abkds_limits_are_where_its_formula_tends(exponent):
    ours, theirs = log_probabilities(0), log_probabilities(1)
    for limit, near in (
        ((exponent, 0.0), (exponent, 1e-6)),
        ((0.0, exponent), (1e-6, exponent)),
        ((0.0, 0.0), (1e-4, 1e-4)),
    ):
        found, tends = (ab_divergence(ours, theirs, *each).item() for each in (limit, near))
        assert found == pytest.approx(tends, rel=2e-3)
    forward, reverse = kd_loss(ours, theirs, 1.0), kd_loss(theirs, ours, 1.0)
    torch.testing.assert_close(ab_divergence(ours, theirs, 1.0, 0.0), forward)
    torch.testing.assert_close(ab_divergence(ours, theirs, 0.0, 1.0), reverse)


powers = st.just(0.0) | st.floats(0.01, 1.5)


@given(alpha=powers, beta=powers, seed=st.integers(0, 50))
def test_abkd_is_a_divergence(alpha, beta, seed):
    """Least where the probabilities are equal, and the other way round with α and β exchanged."""
    ours, theirs = log_probabilities(seed), log_probabilities(seed + 99)
    assert ab_divergence(ours, theirs, alpha, beta) > 0
    assert ab_divergence(ours, ours, alpha, beta).item() == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(
        ab_divergence(ours, theirs, alpha, beta), ab_divergence(theirs, ours, beta, alpha), rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.3), (0.0, 0.5), (0.7, 0.0), (0.0, 0.0)])
def test_abkds_gradient_weighs_by_error_and_confidence(alpha, beta):
    """The slope in log q is q^β (q^α − p^α) / α: α chooses among errors, β among confidences."""
    ours, theirs = log_probabilities(0).requires_grad_(), log_probabilities(1)
    ab_divergence(ours, theirs, alpha, beta).backward()
    q, p = ours.detach().exp(), theirs.exp()
    error = (q**alpha - p**alpha) / alpha if alpha else ours.detach() - theirs
    torch.testing.assert_close(ours.grad, q**beta * error / len(q))


@pytest.mark.parametrize("setting", ["alpha", "beta"])
def test_abkd_refuses_powers_whose_divergence_is_rounding(setting):
    with pytest.raises(InvalidSetting, match=f"{setting}=0.001: 0 or at least 0.01"):
        make("abkd", student_features(), teacher_features(), **{setting: 0.001})


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.3), (0.0, 1.0), (1.0, 0.0)])
def test_abkd_stays_finite_for_certain_predictions(alpha, beta):
    student = (1e4 * random_logits(0).sign()).float().requires_grad_()
    teacher = (1e4 * random_logits(1).sign()).float()
    loss = ab_divergence(student.log_softmax(dim=1), teacher.log_softmax(dim=1), alpha, beta)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


# MSE
def test_mse_is_where_kd_tends_at_high_temperature():
    student, teacher = student_features(), teacher_features()
    found = terms_of(make("mse", student, teacher), student, teacher)["mse"].item()
    assert found == pytest.approx(np.mean((student.logits.numpy() - teacher.logits.numpy()) ** 2), rel=1e-12)
    ours, theirs = (x.logits - x.logits.mean(dim=1, keepdim=True) for x in (student, teacher))
    centred = ((ours - theirs) ** 2).mean().item()
    assert kd_loss(student.logits, teacher.logits, 1e4).item() == pytest.approx(centred / 2, rel=1e-2)


SOFT = [name for name in methods.available() if issubclass(get(name).config_class, DistillConfig)]
OF_LOGITS_ALONE: dict[str, Any] = {"sdd": {"scales": [1]}}  # which makes logits of maps, too


@pytest.mark.parametrize("name", SOFT)
def test_a_standardised_term_reads_zscores(name):
    """Whatever carries soft targets: its terms on z-scored logits are its standardised terms."""
    student, teacher = student_features(), teacher_features(channels=(3, 4, 6, 5))
    soft = dict.fromkeys(get(name).config_class.soft_terms, 1.0)
    settings = OF_LOGITS_ALONE.get(name, {})
    method = make(name, student, teacher, weights=soft, standardise=True, **settings)
    plain = make(name, student, teacher, weights=soft, **settings)
    with torch.no_grad():  # a method that takes part in prediction reads its own logits
        shown = (method.predict(student), teacher)
    changed = [
        dataclasses.replace(x, logits=torch.from_numpy(np.array([zscore(row) for row in x.logits.numpy()])))
        for x in shown
    ]
    found, unchanged = terms_of(method, student, teacher), terms_of(plain, student, teacher)
    expected = plain(*changed, TARGET, INDEX)
    for term in soft:
        torch.testing.assert_close(found[term], expected[term], rtol=1e-5, atol=1e-8)
        assert not torch.isclose(found[term], unchanged[term])
