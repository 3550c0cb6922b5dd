"""What methods do with maps before they compare them."""

import pytest
import torch
import torch.nn.functional as F
from helpers import Operations

from methods.aftkd import channel_attention, spatial_attention
from methods.at import attention_map
from methods.maps import magnitude, mean_over, pool_to


@pytest.mark.parametrize(("side", "to"), [(8, 8), (8, 4), (8, 1), (6, 3), (7, 4), (4, 8), (3, 1)])
def test_maps_are_averaged_over_blocks_in_a_way_that_a_gpu_can_repeat(side, to):
    maps = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    pooled = pool_to(maps, to)
    expected = F.adaptive_avg_pool2d(maps, to)
    torch.testing.assert_close(pooled, expected)
    weights = torch.randn_like(expected)
    (ours,) = torch.autograd.grad((pooled * weights).sum(), maps)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), maps)
    torch.testing.assert_close(ours, theirs)
    with Operations() as operations:
        pool_to(maps, to)
    assert ("aten::_adaptive_avg_pool2d" in operations.names) == (side % to > 0)


@pytest.mark.parametrize("dims", [(1,), (2, 3), (0, 1, 2, 3)], ids=str)
def test_a_mean_is_torchs_with_its_gradient(dims):
    maps = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    ours, theirs = mean_over(maps, *dims), maps.mean(dim=dims, keepdim=True)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    gradients = [torch.autograd.grad((mean * weights).sum(), maps)[0] for mean in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
def test_the_magnitude_of_what_a_relu_shows_needs_no_sign(p):
    """With its gradient where the ReLU is silent, and where its input is exactly 0."""
    maps = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    maps[:, 0, 0] = 0
    maps.requires_grad_()
    both = [magnitude(maps.relu(), p, signed) for signed in (True, False)]
    torch.testing.assert_close(*both, rtol=0, atol=0)
    gradients = [torch.autograd.grad(size.square().sum() + size.sum(), maps)[0] for size in both]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    assert gradients[0].isfinite().all()


@pytest.mark.parametrize(
    "attention",
    [lambda x: spatial_attention(x, 1.0), lambda x: channel_attention(x, 1.0), lambda x: attention_map(x, 2.0)],
    ids=["spatial", "channel", "at"],
)
def test_gradients_of_attention_are_laid_out_as_the_map_is(attention):
    """Otherwise batch norm's backward pass takes ten times as long."""
    layouts = []
    maps = torch.randn(4, 6, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    feature = maps * 1
    feature.register_hook(
        lambda gradient: layouts.append(gradient.is_contiguous(memory_format=torch.channels_last))
    )
    shown = attention(feature)
    (shown * torch.randn_like(shown)).sum().backward()
    assert layouts == [True]
