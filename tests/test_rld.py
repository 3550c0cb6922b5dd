"""RLD's two divergences against their definitions, class by class, and where they are DKD's."""

import math

import numpy as np
import pytest
import torch
from helpers import TARGET, make, random_logits, softmax, student_features, teacher_features, terms_of
from hypothesis import given
from hypothesis import strategies as st

from methods import InvalidSetting
from methods.dkd import nckd_loss, tckd_loss
from methods.kd import standardise
from methods.rld import mcd_loss, scd_loss

LABELS = torch.tensor([0, 6, 3, 3, 1])


def scd_reference(student, teacher, labels, temperature):
    total = 0.0
    for s, t, k in zip(student.numpy(), teacher.numpy(), labels.numpy(), strict=True):
        q, p = softmax(s / temperature)[k], softmax(t / temperature).max()
        total += p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * total / len(labels)


def mcd_reference(student, teacher, labels, temperature):
    total = 0.0
    for s, t, k in zip(student.numpy(), teacher.numpy(), labels.numpy(), strict=True):
        below = [c for c in range(len(t)) if t[c] < t[k]]
        if below:
            q, p = softmax(s[below] / temperature), softmax(t[below] / temperature)
            total += (p * np.log(p / q)).sum()
    return temperature**2 * total / len(labels)


CASES = [(scd_loss, scd_reference), (mcd_loss, mcd_reference)]
both = pytest.mark.parametrize(("loss", "reference"), CASES, ids=["scd", "mcd"])


def ranked(seed, rank):
    """A teacher's logits in which every label has this rank, 0 the first."""
    logits = random_logits(seed).sort(dim=1, descending=True).values
    order = torch.stack([torch.tensor([k for k in range(7) if k != label]) for label in LABELS.tolist()])
    order = torch.cat([order[:, :rank], LABELS[:, None], order[:, rank:]], dim=1)
    return torch.empty_like(logits).scatter_(1, order, logits)


@both
@pytest.mark.parametrize("rank", range(7))
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_is_the_divergence_of_the_refined_distributions(loss, reference, rank, temperature):
    student, teacher = random_logits(0), ranked(1, rank)
    expected = reference(student, teacher, LABELS, temperature)
    assert loss(student, teacher, LABELS, temperature).item() == pytest.approx(expected, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_terms_are_those_of_dkd_where_the_teacher_is_right(temperature):
    student, teacher = random_logits(0), ranked(1, 0)
    for ours, theirs in ((scd_loss, tckd_loss), (mcd_loss, nckd_loss)):
        torch.testing.assert_close(
            ours(student, teacher, LABELS, temperature), theirs(student, teacher, LABELS, temperature)
        )


@pytest.mark.parametrize("rank", range(7))
def test_mcd_is_zero_at_equality_and_scd_where_the_label_has_the_teachers_confidence(rank):
    teacher = ranked(1, rank)
    assert mcd_loss(teacher, teacher, LABELS, 4.0).item() == pytest.approx(0, abs=1e-14)
    assert (scd_loss(teacher, teacher, LABELS, 1.0).item() == pytest.approx(0, abs=1e-14)) == (rank == 0)
    corrected = ranked(1, 0)  # the same confidence, now in the label
    assert scd_loss(corrected, teacher, LABELS, 1.0).item() == pytest.approx(0, abs=1e-14)


def test_what_the_teacher_ranks_above_the_label_is_not_taught():
    """Its order there changes nothing, and the student's logits of those classes get no gradient."""
    student, teacher = random_logits(0).requires_grad_(), ranked(1, 3)
    above = teacher >= teacher.gather(1, LABELS[:, None])
    loss = mcd_loss(student, teacher, LABELS, 4.0)
    loss.backward()
    assert not student.grad[above].any()
    assert student.grad[~above].all()
    highest = teacher.max() + 1 + above.cumsum(dim=1)
    raised = torch.where(above & (torch.arange(7) != LABELS[:, None]), highest, teacher)
    torch.testing.assert_close(mcd_loss(student, raised, LABELS, 4.0), loss)


@pytest.mark.parametrize("rank", [5, 6])
def test_mcd_has_nothing_to_say_of_fewer_than_two_classes(rank):
    student = random_logits(0).float().requires_grad_()
    loss = mcd_loss(student, ranked(1, rank).float(), LABELS, 4.0)
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


def test_scd_pulls_at_the_label_alone_where_the_teacher_errs():
    """The student's label rises towards the teacher's confidence in another class; that class falls."""
    student = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.0, 3.0, 1.0, -1.0]], dtype=torch.float64)
    scd_loss(student, teacher, torch.tensor([2]), 1.0).backward()
    assert student.grad[0, 2] < 0
    assert (student.grad[0, [0, 1, 3]] > 0).all()


@both
@given(shift_student=st.floats(-50, 50), shift_teacher=st.floats(-50, 50), seed=st.integers(0, 99))
def test_ignores_shifts_of_the_logits(loss, reference, shift_student, shift_teacher, seed):
    student, teacher = random_logits(seed), random_logits(seed + 100)
    shifted = loss(student + shift_student, teacher + shift_teacher, LABELS, 4.0)
    torch.testing.assert_close(shifted, loss(student, teacher, LABELS, 4.0), rtol=1e-8, atol=1e-10)


@both
@pytest.mark.parametrize("rank", [0, 3, 6])
def test_stays_finite_for_extreme_logits(loss, reference, rank):
    student = (1e3 * random_logits(0)).float().requires_grad_()
    found = loss(student, (1e3 * ranked(1, rank)).float(), LABELS, 1.0)
    found.backward()
    assert found.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("z_scores", [False, True])
def test_the_method_uses_its_settings(z_scores):
    student, teacher = student_features(), teacher_features()
    settings = {"temperature": 2.0, "confidence_temperature": 1.5, "standardise": z_scores}
    method = make("rld", student, teacher, **settings)
    logits = [standardise(x.logits) if z_scores else x.logits for x in (student, teacher)]
    terms = terms_of(method, student, teacher)
    for term, reference, temperature in (("scd", scd_reference, 1.5), ("mcd", mcd_reference, 2.0)):
        assert terms[term].item() == pytest.approx(reference(*logits, TARGET, temperature), rel=1e-9)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_temperature_that_is_none(temperature):
    with pytest.raises(InvalidSetting, match="confidence_temperature"):
        make("rld", student_features(), teacher_features(), confidence_temperature=temperature)
