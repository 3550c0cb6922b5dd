"""Batch norm of networks and connectors."""

import pytest
import torch
from helpers import Operations, draw, randomise

from methods.norms import BatchNorm


def twins():
    """This one and torch's, in one state."""
    norm = BatchNorm(3).double()
    randomise(norm)
    norm(draw(0, 4, 3, 2, 2))
    plain = torch.nn.BatchNorm2d(3).double()
    plain.load_state_dict(norm.state_dict())
    return norm, plain


@pytest.mark.parametrize("trains", [True, False])
def test_batch_norm_is_torchs_but_counts_nothing(trains):
    norm, plain = (each.train(trains) for each in twins())
    counted = int(norm.num_batches_tracked)
    values = draw(1, 4, 3, 2, 2)
    with Operations() as operations:
        ours = norm(values)
    assert not [name for name in operations.names if "add" in name]
    torch.testing.assert_close(ours, plain(values))
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)
    assert norm.num_batches_tracked == counted


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 1, 1), (1, 3, 2, 1)])
def test_a_value_alone_is_normalised_by_what_was_seen_before(shape):
    """As in evaluation, and it moves nothing; two values are normalised by their own statistics."""
    norm, plain = twins()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    alone = shape == (1, 3, 1, 1)
    values = draw(1, *shape)
    torch.testing.assert_close(norm(values), plain.train(not alone)(values))
    state = norm.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before.items()) == alone
