"""Networks by RepDistiller's names. To add one, add a file to this package that calls `register`."""

from benchmarks.models.network import Network, NetworkEntry, available, create, entry, register

__all__ = ["Network", "NetworkEntry", "available", "create", "entry", "register"]
