"""VGG's biases, which batch norm takes away."""

import torch
from helpers import Operations, draw
from torch import nn

from benchmarks import models
from benchmarks.models.vgg import Block

SIDE = 8


def twins(seed):
    """A block, and the same layers of torch's own, float64, with biases that are not zero."""
    torch.manual_seed(seed)
    block = Block(3, 4, depth=2).double()
    for layer in (block[0], block[3]):
        nn.init.normal_(layer.bias)
    plain = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)]
    plain = nn.Sequential(*plain, nn.BatchNorm2d(4)).double()
    plain.load_state_dict(block.state_dict())
    assert plain[0].bias.abs().min() > 0
    return block, plain


def test_a_block_learns_what_torchs_layers_learn():
    """Three steps: maps, weights, what batch norms remember, and what is shown in evaluation."""
    block, plain = twins(0)
    descents = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (block, plain)]
    for step in range(3):
        images, wanted = draw(step, 5, 3, SIDE, SIDE), draw(9 + step, 5, 4, SIDE, SIDE)
        shown = [each(images) for each in (block, plain)]
        torch.testing.assert_close(*shown)
        for maps, descent in zip(shown, descents, strict=True):
            descent.zero_grad()
            (maps - wanted).square().mean().backward()
            descent.step()
        assert all(plain[k].bias.grad.abs().max() < 1e-12 for k in (0, 3))
    ours, theirs = block.state_dict(), plain.state_dict()
    for name in ours.keys() - {"1.num_batches_tracked", "4.num_batches_tracked"}:
        torch.testing.assert_close(ours[name], theirs[name])
    torch.testing.assert_close(block.eval()(images), plain.eval()(images))


def test_no_time_goes_into_biases():
    block, _ = twins(1)
    images = draw(0, 5, 3, SIDE, SIDE)
    before = [layer.bias.clone() for layer in (block[0], block[3])]
    masks = []

    class Masks(Operations):
        """Notes for which of a convolution's inputs gradients are computed."""

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.name() == "aten::convolution":
                assert args[2] is None
            elif function.name() == "aten::convolution_backward":
                masks.append(args[-1])
            return super().__torch_dispatch__(function, types, args, kwargs)

    with Masks():
        block(images).square().mean().backward()
    assert [mask[2] for mask in masks] == [False, False]
    assert all(torch.equal(layer.bias, bias) for layer, bias in zip((block[0], block[3]), before, strict=True))


def test_a_student_begins_without_bias():
    network = models.create("vgg8", 7)
    assert all(not layer.bias.any() for layer in network.modules() if isinstance(layer, nn.Conv2d))
