"""A frozen teacher made ready to look at batches: what does not change is computed once.

Batch norm in eval mode is an affine map and goes into the convolution before it, one pass less each. Weights that
autocast would convert at every step are kept in the precision of the training.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.config import Precision, TrainConfig
from benchmarks.data import DataInfo
from benchmarks.models import Network
from benchmarks.training.autograd import nodes_from
from benchmarks.training.layout import suit
from methods import Features


def ready_to_teach(network: Network, train: TrainConfig, info: DataInfo) -> Network:
    """A frozen network, in eval mode, made ready in place, once the methods have looked at it as it is.

    Under the training's autocast it shows the same as before, but for what folding rounds.
    """
    fold_batch_norms(network, info)
    if train.precision == Precision.bf16:
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(torch.bfloat16)
    return suit(network, train, info)


def fold_batch_norms(network: Network, info: DataInfo) -> Network:
    """Fold, in place, every batch norm that is the only reader of a convolution's output.

    A convolution whose output something else reads too (the shortcut beside a Wide ResNet's first block, or a
    method, as one of the network's features) stays as it is.

    Args:
        network: frozen, in eval mode; its features are the same afterwards but for rounding.
        info: of the data set that it looks at.
    """
    calls: dict[Any, nn.Module] = {}  # by the node that the module's output has in autograd's graph

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        calls[output.grad_fn] = module

    hooks = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    reads = _reads(_probe(network, info.blank))
    for hook in hooks:
        hook.remove()
    names = {module: name for name, module in network.named_modules()}
    for node, norm in calls.items():
        before = node.next_functions[0][0]
        convolution = calls.get(before)
        if isinstance(norm, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d) and reads[before] == 1:
            folded = fuse_conv_bn_eval(convolution, norm)
            network.set_submodule(names[convolution], folded)
            network.set_submodule(names[norm], nn.Identity())
    return network


def _probe(network: Network, image: Tensor) -> Features:
    """Features of an image with a graph behind them, which a frozen network has only if its input asks for one."""
    like = next(network.parameters())
    with torch.enable_grad():
        return network.features(image.to(like).requires_grad_(), preacts=True)


def _reads(features: Features) -> Counter[Any]:
    """How often each node's output is read, within the graph or as one of the features."""
    reads = Counter(tensor.grad_fn for tensor in features.tensors())
    for node in nodes_from(tensor.grad_fn for tensor in features.tensors()):
        reads.update(following for following, _ in node.next_functions)
    return reads
