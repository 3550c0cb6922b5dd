"""What methods do with maps before they compare them."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from methods.maps import pool_to


class Names(TorchDispatchMode):
    """Notes what is computed."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.found.add(function.name().split(".")[0])
        return function(*args, **(kwargs or {}))


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
    with Names() as names:
        pool_to(maps, to)
    assert ("aten::_adaptive_avg_pool2d" in names.found) == (side % to > 0)
