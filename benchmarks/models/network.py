"""What every network of the suite can do, and the registry of their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from benchmarks.errors import UserError, require
from methods import Features, InvalidSetting, unknown
from methods.registry import import_all


class Network(nn.Module):
    """An image classifier that shows its stages.

    Architectures, `state_dict` keys and their order are RepDistiller's (CRD, ICLR 2020), so that published
    checkpoints load as they are.
    """

    def features(self, x: Tensor, preacts: bool = False) -> Features:
        """Maps, embedding and logits of images.

        Args:
            x: normalised images `[B, 3, H, W]`.
            preacts: also give the stages before their last activation.
        """
        raise NotImplementedError

    @property
    def head(self) -> nn.Linear:
        """The layer that makes the logits of the embedding."""
        *_, last = (module for module in self.modules() if isinstance(module, nn.Linear))
        return last

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The batch norm before the last activation of each stage but the stem; of a sum, that of its branch.

        Raises:
            InvalidSetting: a stage has none, or the network's class does not tell.
        """
        raise InvalidSetting(f"a {type(self).__name__} has no norms() to give the batch norm that ends each stage")

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, K]` of normalised images `[B, 3, H, W]`."""
        return self.features(x).logits


@dataclass(frozen=True)
class NetworkEntry:
    """A network by name.

    Attributes:
        build: makes it, given the number of classes.
        lr: learning rate of the common protocol when it is the student.
    """

    build: Callable[[int], Network]
    lr: float

    @property
    def maker(self) -> Any:
        """The class of the network, or the function that builds it."""
        return self.build.func if isinstance(self.build, partial) else self.build

    @property
    def module(self) -> str:
        """Where that stands."""
        return str(self.maker.__module__)


_NETWORKS: dict[str, NetworkEntry] = {}


def register(name: str, build: Callable[[int], Network], *, lr: float = 0.05) -> None:
    """Make a network available as `name`."""
    entry = NetworkEntry(build, lr)
    if name in _NETWORKS:
        raise ValueError(f"two networks are called {name}: {_NETWORKS[name].module} and {entry.module}")
    _NETWORKS[name] = entry


def available() -> tuple[str, ...]:
    """Names of all networks, family by family.

    Raises:
        UserError: a file of `benchmarks.models` cannot be imported.
    """
    import_all("benchmarks.models", UserError)
    return tuple(_NETWORKS)


def entry(name: str) -> NetworkEntry:
    """Raises InvalidSetting where no network has this name."""
    if name not in available():
        raise InvalidSetting(unknown("network", name, available()))
    return _NETWORKS[name]


def create(name: str, num_classes: int = 100) -> Network:
    """A freshly initialised network (from torch's global random numbers).

    Raises:
        InvalidSetting: no network has this name.
        UserError: what was registered by it is no network of the suite.
    """
    network = entry(name).build(num_classes)
    require(isinstance(network, Network), f"network {name}: a {type(network).__name__} is no Network")
    parameters = inspect.signature(network.features).parameters
    require("preacts" in parameters, f"network {name}: features({', '.join(parameters)}) lacks preacts=False")
    return network
