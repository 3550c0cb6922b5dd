"""SRRL: the connected embedding and what the teacher's classifier makes of it, against NumPy."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import NUM_CLASSES, TARGETS, Headed, connected, make, random_features, randomise, terms_of, with_grad
from scipy import stats

import methods
from methods import FeatureSpec


def pair(sides=(4, 4)):
    student = random_features((3, 4), (8, sides[0]), embedding=6, seed=1)
    teacher = random_features((3, 4), (8, sides[1]), embedding=8, seed=2)
    return student, teacher


def embedded(method, x):
    return np.maximum(connected(method.connector, x), 0).mean(axis=(2, 3))


def mean_square(first, second):
    return sum((a - b) ** 2 for a, b in zip(first.ravel(), second.ravel(), strict=True)) / first.size


@pytest.mark.parametrize("sides", [(4, 4), (8, 4), (2, 4)])
@pytest.mark.parametrize("connects", ["map", "embedding"])
def test_matches_the_definition(connects, sides):
    student, teacher = pair(sides)
    method = make("srrl", student, teacher, connects=connects)
    randomise(method)
    if connects == "map":
        ours, theirs = embedded(method, student.final.numpy()), teacher.final.numpy().mean(axis=(2, 3))
    else:
        ours, theirs = embedded(method, student.embedding.numpy()[:, :, None, None]), teacher.embedding.numpy()
    head = Headed(teacher, seed=1).head  # the one that `make` showed the method
    logits = ours @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    terms = terms_of(method, student, teacher)
    assert terms["fm"].item() == pytest.approx(mean_square(ours, theirs), rel=1e-9)
    assert terms["sr"].item() == pytest.approx(mean_square(logits, teacher.logits.numpy()), rel=1e-9)


@pytest.mark.parametrize("connects", ["map", "embedding"])
def test_the_connector_begins_as_the_authors_does(connects):
    """Normal weights of variance 2 / C, C the teacher's channels."""
    student, teacher = random_features(embedding=100, seed=1), random_features(embedding=25, seed=2)
    weight = make("srrl", student, teacher, connects=connects).connector[0].weight.detach()
    assert weight.shape == (25, 100, 1, 1)
    assert stats.kstest(weight.flatten().numpy(), stats.norm(0, (2 / 25) ** 0.5).cdf).pvalue > 1e-3


def test_a_connected_map_that_is_the_teachers_costs_nothing():
    """Its mean is the teacher's embedding, of which the classifier makes the teacher's logits."""
    student, teacher = pair()
    head = Headed(teacher, seed=1).head
    teacher = dataclasses.replace(teacher, logits=head(teacher.final.mean(dim=(2, 3))).detach())
    method = make("srrl", student, teacher)
    method.connector = torch.nn.Identity()
    terms = terms_of(method, dataclasses.replace(student, final=teacher.final), teacher)
    assert terms["fm"] == 0
    assert terms["sr"].item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("term", ["fm", "sr"])
def test_each_term_trains_student_and_connector_but_no_classifier(term):
    student, teacher = pair()
    student = with_grad(student)
    method = make("srrl", student, teacher)
    terms_of(method, student, teacher)[term].backward()
    assert student.final.grad.any()
    assert student.logits.grad is None
    assert all(parameter.grad.any() for parameter in method.parameters())
    assert [parameter.shape for parameter in method.parameters()] == [(8, 6, 1, 1), (8,), (8,)]
    assert method.weight.shape == (NUM_CLASSES, 8)
    assert not method.predicts


def test_a_classifier_without_bias_adds_none():
    student, teacher = pair()
    networks = Headed(teacher, seed=1), Headed(student, seed=2)
    networks[0].head.bias = None
    shapes = map(FeatureSpec.of, (student, teacher))
    method = methods.create("srrl", *shapes, num_classes=NUM_CLASSES, targets=TARGETS)
    method.prepare(*networks)
    assert torch.equal(method.weight, networks[0].head.weight.float())
    assert not method.bias.any()


def test_maps_that_are_0_everywhere_have_finite_gradients():
    student, teacher = pair()
    student = with_grad(dataclasses.replace(student, final=torch.zeros_like(student.final)))
    teacher = dataclasses.replace(teacher, final=torch.zeros_like(teacher.final))
    method = make("srrl", student, teacher)
    sum(terms_of(method, student, teacher).values()).backward()
    assert student.final.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in method.parameters())


def test_reads_the_map_or_the_embedding_as_told():
    student, teacher = pair()
    other = dataclasses.replace(student, final=student.final + 1, embedding=student.embedding)
    for connects, alike in (("map", False), ("embedding", True)):
        method = make("srrl", student, teacher, connects=connects)
        first, second = (terms_of(method.eval(), shown, teacher)["fm"] for shown in (student, other))
        assert bool(first == second) == alike
