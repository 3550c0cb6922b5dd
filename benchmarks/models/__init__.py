"""Networks by RepDistiller's names. To add one, add a file to this package that calls `register`."""

import importlib
import pkgutil

from benchmarks.models.network import Network, NetworkEntry, available, create, entry, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Network", "NetworkEntry", "available", "create", "entry", "register"]
