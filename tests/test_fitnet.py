"""FitNet's hint against convolutions written as loops, for every geometry of the regressor."""

import numpy as np
import pytest
from helpers import batch_norm, convolution, deconvolution, make, random_features, randomise, terms_of

from methods import InvalidSetting

GEOMETRIES = {  # student side, teacher side: operation, kernel, stride, padding
    (8, 4): (convolution, 3, 2, 1),
    (4, 8): (deconvolution, 4, 2, 1),
    (4, 4): (convolution, 1, 1, 0),
    (8, 8): (convolution, 1, 1, 0),
    (7, 4): (convolution, 4, 1, 0),
    (9, 3): (convolution, 7, 1, 0),
}


def pair(side_student, side_teacher, signed=False):
    student = random_features((3, 4, 5), (8, 8, side_student), seed=1)
    teacher = random_features((3, 4, 6), (8, 8, side_teacher), seed=2, signed=signed)
    return student, teacher


def hint_reference(method, student, teacher, rectified, stage=2):
    x, hint = student.stages[stage].numpy(), teacher.stages[stage].numpy()
    operation, kernel, stride, padding = GEOMETRIES[x.shape[-1], hint.shape[-1]]
    weight, bias, gamma, beta = (parameter.detach().numpy() for parameter in method.regressor.parameters())
    assert weight.shape[2:] == (kernel, kernel)
    out = batch_norm(operation(x, weight, bias, stride, padding), gamma, beta)
    return ((np.maximum(out, 0) if rectified else out) - hint).__pow__(2).mean()


@pytest.mark.parametrize("sides", GEOMETRIES)
@pytest.mark.parametrize("signed", [False, True])
def test_matches_the_definition_in_every_geometry(sides, signed):
    student, teacher = pair(*sides, signed=signed)
    method = make("fitnet", student, teacher)
    randomise(method)
    expected = hint_reference(method, student, teacher, rectified=not signed)
    assert terms_of(method, student, teacher)["hint"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_activation_can_be_forced(activation, signed):
    student, teacher = pair(4, 4, signed=signed)
    method = make("fitnet", student, teacher, activation=activation)
    randomise(method)
    expected = hint_reference(method, student, teacher, rectified=activation == "relu")
    assert terms_of(method, student, teacher)["hint"].item() == pytest.approx(expected, rel=1e-9)


def test_only_the_hints_own_sign_matters():
    """A signed stage elsewhere, or a signed student, does not change the regressor."""
    _, teacher = pair(4, 4)
    signed_student = random_features((3, 4, 5), (8, 8, 4), seed=1, signed=True)
    signed_stem = random_features((3, 4, 6), (8, 8, 4), seed=3, signed=True).stages[:2]
    teacher = type(teacher)((*signed_stem, teacher.stages[2]), (), teacher.embedding, teacher.logits)
    method = make("fitnet", signed_student, teacher)
    randomise(method)
    expected = hint_reference(method, signed_student, teacher, rectified=True)
    assert terms_of(method, signed_student, teacher)["hint"].item() == pytest.approx(expected, rel=1e-9)


def test_the_hint_can_be_any_stage_of_both():
    student, teacher = pair(4, 4)
    method = make("fitnet", student, teacher, stage=0)
    randomise(method)
    expected = hint_reference(method, student, teacher, rectified=True, stage=0)
    assert terms_of(method, student, teacher)["hint"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sides", [(3, 8), (4, 7), (1, 4)])
def test_refuses_maps_that_no_regressor_can_match(sides):
    with pytest.raises(InvalidSetting, match="stage"):
        make("fitnet", *pair(*sides))


@pytest.mark.parametrize("stage", [-1, 3])
def test_refuses_a_stage_that_a_network_lacks(stage):
    with pytest.raises(InvalidSetting, match=f"stage={stage}"):
        make("fitnet", *pair(4, 4), stage=stage)
