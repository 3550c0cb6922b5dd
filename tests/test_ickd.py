"""ICKD's correlations of channels against loops over them, on both ways to compute them."""

import numpy as np
import pytest
import torch
from helpers import (
    connected,
    draw_maps,
    make,
    random_features,
    randomise,
    student_features,
    teacher_features,
    terms_of,
)
from hypothesis import given
from hypothesis import strategies as st

from methods.ickd import ickd_loss


def unit_rows(maps):
    """Each channel's inner products with all, of unit length unless there are none."""
    rows = []
    for x in maps:
        row = np.array([(x * y).sum() for y in maps])
        length = np.sqrt((row**2).sum())
        rows.append(row / length if length else row)
    return rows


def reference(student, teacher):
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        pairs = zip(unit_rows(ours), unit_rows(theirs), strict=True)
        total += sum(((a - b) ** 2).sum() for a, b in pairs)
    return total / (student.shape[0] * student.shape[1])


@pytest.mark.parametrize("channels", [2, 5, 20])
@pytest.mark.parametrize("sides", [(4, 4), (2, 4), (4, 1), (1, 1)])
def test_is_the_difference_of_the_normalised_correlations(channels, sides):
    student, teacher = draw_maps(0, channels, sides[0]), draw_maps(1, channels, sides[1]).relu()
    teacher[:, 1] = 0
    found, expected = ickd_loss(student, teacher), reference(student.numpy(), teacher.numpy())
    assert found.item() == pytest.approx(expected, rel=1e-9)


@given(
    seed=st.integers(0, 50),
    scale=st.floats(0.01, 100),
    channels=st.permutations(range(6)),
    side=st.sampled_from([1, 3]),
)
def test_ignores_scale_places_and_the_common_order_of_channels(seed, scale, channels, side):
    student, teacher = draw_maps(seed, 6, side), draw_maps(seed + 99, 6, 3)
    turned = scale * student.flip(dims=(2, 3)).transpose(2, 3)
    expected = ickd_loss(student, teacher)
    torch.testing.assert_close(ickd_loss(turned, -teacher), expected)
    torch.testing.assert_close(ickd_loss(student[:, channels], teacher[:, channels]), expected)
    torch.testing.assert_close(ickd_loss(teacher, student), expected)
    assert 0 <= expected <= 4
    assert ickd_loss(turned, student).item() == pytest.approx(0, abs=1e-12)


def test_channels_that_trade_places_are_not_the_same():
    student = draw_maps(0, 6, 3)
    assert ickd_loss(student.flip(dims=(1,)), student) > 0.1


@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("dead", [1, slice(None)], ids=["one", "all"])
def test_dead_channels_of_either_side_have_no_gradient(channels, dead):
    for side in (0, 1):
        maps = [draw_maps(0, channels, 4).float(), draw_maps(1, channels, 4).float()]
        maps[side][:, dead] = 0
        student = maps[0].requires_grad_()
        loss = ickd_loss(student, maps[1])
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()
        assert bool(student.grad.any()) == (dead == 1)


def test_gradient_is_that_of_the_definition():
    student, teacher = draw_maps(0, 20, 2, batch=2).requires_grad_(), draw_maps(1, 20, 2, batch=2)
    assert torch.autograd.gradcheck(lambda x: ickd_loss(x, teacher), student)


def test_compares_the_connected_map_that_is_pooled_to_the_embedding():
    student, teacher = student_features(), teacher_features()
    method = make("ickd", student, teacher)
    randomise(method)
    expected = reference(connected(method.connector, student.final.numpy()), teacher.final.numpy())
    assert terms_of(method, student, teacher)["ickd"].item() == pytest.approx(expected, rel=1e-9)


def test_has_a_connector_where_widths_agree_too():
    features = random_features()
    method = make("ickd", features, features)
    assert [parameter.shape for parameter in method.parameters()] == [(7, 7, 1, 1), (7,), (7,)]
