"""OFD's margins and distance against their definitions in NumPy and SciPy."""

import numpy as np
import pytest
import torch
from helpers import (
    Headed,
    block_mean,
    connected,
    draw_maps,
    make,
    random_features,
    randomise,
    terms_of,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import nn

from methods import InvalidSetting
from methods.ofd import margin, ofd_loss


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.3), (-2.0, 0.7), (1.0, -0.5), (0.2, 3.0)])
def test_margin_is_the_mean_of_the_negative_part(mean, std):
    norm = nn.BatchNorm2d(1)
    with torch.no_grad():
        norm.weight.fill_(std)
        norm.bias.fill_(mean)
    normal = stats.norm(mean, abs(std))
    expected = integrate.quad(lambda x: x * normal.pdf(x), -60, 0)[0] / normal.cdf(0)
    assert margin(norm).item() == pytest.approx(expected, rel=1e-5)


def test_margin_of_what_is_hardly_ever_negative_is_three_deviations():
    """Of less than a thousandth: beyond 3.09 deviations."""
    norm = nn.BatchNorm2d(5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.1, 0.1, 0.1, 0.1, 0.0]))
        norm.bias.copy_(torch.tensor([1.0, 0.31, 0.308, 0.2, 0.0]))
    found = margin(norm)
    assert found[:2].tolist() == pytest.approx([-0.3, -0.3])
    assert all(-0.1 < each < 0 for each in found[2:4])
    assert found.isfinite().all()  # a channel that is switched off too


def ofd_reference(student, teacher, margins):
    """Position by position: the paper's partial distance from max(teacher, margin)."""
    total = 0.0
    for (b, c, h, w), ours in np.ndenumerate(student):
        target = max(teacher[b, c, h, w], margins[c])
        if not (ours <= target <= 0):
            total += (ours - target) ** 2
    return total / len(student)


def test_distance_matches_the_definition():
    student, teacher = draw_maps(0, 4, 2), draw_maps(1, 4, 2)
    margins = torch.tensor([-0.1, -0.5, -1.0, -2.0], dtype=torch.float64)
    expected = ofd_reference(student.numpy(), teacher.numpy(), margins.numpy())
    assert ofd_loss(student, teacher, margins[:, None, None]).item() == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 2**16), st.floats(0, 3))
def test_what_is_inactive_in_both_costs_nothing(seed, lower):
    generator = torch.Generator().manual_seed(seed)
    teacher = -torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64)
    margins = torch.full((3, 1, 1), -0.5, dtype=torch.float64)
    assert ofd_loss(torch.maximum(teacher, margins) - lower, teacher, margins) == 0
    assert ofd_loss(teacher.abs(), teacher, margins) > 0


def test_stages_count_by_halves_and_the_larger_map_is_pooled():
    student = random_features((3, 4, 6, 5), (8, 8, 4, 2), seed=1)
    teacher = random_features((3, 5, 7, 8), (8, 8, 8, 2), seed=2)
    method = make("ofd", student, teacher)
    randomise(method)
    norms = Headed(teacher, seed=1).norms()  # those that `make` showed the method
    expected = 0.0
    for k in range(3):
        mapped = connected(method.connectors[k], student.preacts[k + 1].numpy())
        theirs = block_mean(teacher.preacts[k + 1].numpy(), student.stages[k + 1].shape[-1])
        expected += 2.0 ** (k - 2) * ofd_reference(mapped, theirs, margin(norms[k]).numpy())
    assert terms_of(method, student, teacher)["ofd"].item() == pytest.approx(expected, rel=1e-6)


def test_margins_follow_the_stage_map_and_are_saved():
    student, teacher = random_features(seed=1), random_features((3, 5, 7, 8), seed=2)
    method = make("ofd", student, teacher, stages=[[1, 2], [2, 3]])
    norms = Headed(teacher, seed=1).norms()
    state = method.state_dict()
    assert torch.equal(state["margins0"].flatten(), margin(norms[1]))
    assert torch.equal(state["margins1"].flatten(), margin(norms[2]))


def test_connectors_begin_as_the_authors_do():
    """Normal weights of variance 2 / C, C the teacher's channels; batch norm as the identity."""
    student, teacher = random_features((3, 40, 60, 50), seed=1), random_features((3, 50, 70, 80), seed=2)
    for connector, theirs in zip(make("ofd", student, teacher).connectors, teacher.preacts[1:], strict=True):
        weight, gamma, beta = (parameter.detach() for parameter in connector.parameters())
        drawn = stats.norm(0, (2 / theirs.shape[1]) ** 0.5)
        assert stats.kstest(weight.flatten().numpy(), drawn.cdf).pvalue > 1e-3
        assert (gamma == 1).all()
        assert (beta == 0).all()


def test_refuses_the_stem():
    with pytest.raises(InvalidSetting, match="stem"):
        make("ofd", random_features(seed=1), random_features(seed=2), stages=[[0, 0]])
