"""MLKD's three levels against their definitions in NumPy, over temperatures and views."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import make, random_logits, softmax, student_features, teacher_features, terms_of
from hypothesis import given
from hypothesis import strategies as st

from methods import InvalidSetting
from methods.mlkd import batch_loss, class_loss

ALL = (4.0, 3.0, 5.0, 2.0, 6.0)


def instance_reference(student, teacher, temperature):
    ours, theirs = softmax(student / temperature), softmax(teacher / temperature)
    return temperature**2 * (theirs * np.log(theirs / ours)).sum(axis=1).mean()


def relation_reference(student, teacher, temperature, between_classes):
    ours, theirs = softmax(student / temperature), softmax(teacher / temperature)
    if between_classes:
        ours, theirs = ours.T, theirs.T
    total = 0.0
    for i in range(len(ours)):
        for j in range(len(ours)):
            total += (ours[i] @ ours[j] - theirs[i] @ theirs[j]) ** 2
    return total / len(ours)


def levels(student, teacher, temperature):
    return {
        "instance": instance_reference(student, teacher, temperature),
        "batch": relation_reference(student, teacher, temperature, between_classes=False),
        "class": relation_reference(student, teacher, temperature, between_classes=True),
    }


def logits(num_views):
    """Of each view, student's and teacher's."""
    return [np.split(features.logits.numpy(), num_views) for features in (student_features(), teacher_features())]


@pytest.mark.parametrize("views", [1, 2, 3])
def test_every_level_of_every_view_at_every_temperature(views):
    method = make("mlkd", student_features(), teacher_features(), views=views)
    assert method.num_views == views
    found = terms_of(method, student_features(), teacher_features())
    for term in ("instance", "batch", "class"):
        losses = [levels(*view, t)[term] for view in zip(*logits(views), strict=True) for t in ALL]
        assert found[term].item() == pytest.approx(sum(losses) / views, rel=1e-10)


def test_the_form_of_the_code_is_what_the_authors_code_computes():
    """Term by term as their code writes it down, with masks of half of the samples and of the classes."""
    student, teacher = logits(2)
    weak, strong = zip(student, teacher, strict=True)
    expected = {
        "instance": sum(0.5 * levels(*weak, t)["instance"] for t in ALL)
        + sum(levels(*strong, t)["instance"] for t in (4.0, 3.0, 5.0))
        + sum(levels(*weak, t)["instance"] for t in (2.0, 6.0)),
        "batch": sum(0.5 * levels(*weak, t)["batch"] for t in ALL),
        "class": sum(0.5 * levels(*weak, t)["class"] for t in ALL),
    }
    method = make("mlkd", student_features(), teacher_features(), form="code")
    found = terms_of(method, student_features(), teacher_features())
    for term, value in expected.items():
        # Averaged over the two views, with twice the weight.
        assert found[term].item() == pytest.approx(value / 2, rel=1e-10)
        assert method.config.weights[term] == pytest.approx(2 * 0.9)
    assert method.config.weights["ce"] == pytest.approx(2 * 0.1)


def test_the_papers_form_weighs_more_than_the_authors_code():
    """Of two views that are alike: batch and class by 4, instance by 4/3."""
    student, teacher = (
        dataclasses.replace(features, logits=features.logits[:3].repeat(2, 1))
        for features in (student_features(), teacher_features())
    )
    paper, code = (
        terms_of(make("mlkd", student, teacher, form=form), student, teacher) for form in ("paper", "code")
    )
    ratios = {term: (paper[term] / code[term]).item() for term in paper}
    assert ratios == pytest.approx({"instance": 4 / 3, "batch": 4, "class": 4})


@given(st.integers(0, 2**16), st.floats(0.5, 8))
def test_levels_know_no_order(seed, temperature):
    student, teacher = random_logits(seed, 5, 4), random_logits(seed + 1, 5, 4)
    generator = torch.Generator().manual_seed(seed)
    samples, classes = torch.randperm(5, generator=generator), torch.randperm(4, generator=generator)
    for loss in (batch_loss, class_loss):
        value = loss(student, teacher, temperature)
        moved = loss(student[samples][:, classes], teacher[samples][:, classes], temperature)
        torch.testing.assert_close(moved, value)
        assert loss(teacher + 7, teacher, temperature).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"views": 0}, "views"),
        ({"views": 1, "form": "code"}, "views"),
        ({"temperatures": [3.0, 0.0]}, "temperatures"),
        ({"temperatures": [3.0, 5.0], "form": "code"}, "temperatures"),
    ],
)
def test_refuses_what_cannot_work(config, key):
    with pytest.raises(InvalidSetting, match=key):
        make("mlkd", student_features(), teacher_features(), **config)
