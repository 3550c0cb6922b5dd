"""CTKD: the learned temperature, its reversed gradient and its curriculum."""

import math

import numpy as np
import pytest
import torch
from helpers import make, softmax, student_features, teacher_features, terms_of

from methods import InvalidSetting


def pair():
    return student_features(), teacher_features()


def reference(student, teacher, theta, lowest, span):
    temperature = lowest + span / (1 + math.exp(-theta))
    ours, theirs = (softmax(x.logits.numpy() / temperature) for x in (student, teacher))
    return temperature**2 * (theirs * np.log(theirs / ours)).sum(axis=1).mean()


@pytest.mark.parametrize(("lowest", "span", "theta"), [(1.0, 20.0, 1.0), (2.0, 5.0, -1.5)])
def test_matches_the_definition(lowest, span, theta):
    method = make("ctkd", *pair(), lowest=lowest, span=span)
    with torch.no_grad():
        method.theta.fill_(theta)
    expected = reference(*pair(), theta, lowest, span)
    assert terms_of(method, *pair())["ctkd"].item() == pytest.approx(expected, rel=1e-12)


def test_temperature_begins_where_the_authors_let_it():
    method = make("ctkd", *pair())
    expected = 1 + 20 / (1 + math.exp(-1))
    assert method.diagnostics({})["ctkd_temperature"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epoch", "strength"), [(-3, 0), (0, (1 - math.cos(math.pi / 10)) / 2), (4, 0.5), (9, 1), (200, 1)]
)
def test_the_temperature_ascends_what_the_student_descends_more_and_more(epoch, strength):
    method = make("ctkd", *pair())
    method.epoch(epoch)
    terms_of(method, *pair())["ctkd"].backward()
    step = 1e-5
    slope = (reference(*pair(), 1 + step, 1, 20) - reference(*pair(), 1 - step, 1, 20)) / (2 * step)
    assert abs(slope) > 1e-3
    assert method.theta.grad.item() == pytest.approx(-strength * slope, rel=1e-5, abs=1e-12)


def test_the_students_gradient_is_not_turned_round():
    student, teacher = pair()
    student.logits.requires_grad_()
    method = make("ctkd", student, teacher)
    terms_of(method, student, teacher)["ctkd"].backward()
    found = student.logits.grad.clone()
    temperature = method.temperature.item()
    ours, theirs = (torch.softmax(x.logits / temperature, dim=1) for x in (student, teacher))
    torch.testing.assert_close(found, (temperature * (ours - theirs) / len(found)).detach())


def test_the_curriculum_can_be_slower():
    method = make("ctkd", *pair(), growth=40)
    method.epoch(19)
    assert method.reversal.item() == pytest.approx(0.5)


def test_without_its_term_nothing_is_learned():
    method = make("ctkd", *pair(), weights={"ctkd": 0.0})
    assert not list(method.parameters())
    assert method.diagnostics({}) == {}


@pytest.mark.parametrize(("key", "value"), [("lowest", 0.0), ("span", math.nan), ("growth", 0)])
def test_refuses_what_cannot_work(key, value):
    with pytest.raises(InvalidSetting, match=key):
        make("ctkd", *pair(), **{key: value})
