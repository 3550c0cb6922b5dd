"""The common harness: command line, pairs, networks, data, training, checkpoints and tracking."""

import importlib.util
import itertools
import signal
import sys
from pathlib import Path

# While Python imports a command of ours behind -m, which takes seconds, there is nothing to save, and nobody to
# catch an exception: Ctrl-C just ends it. `benchmarks.cli.main` makes it an exception again.
_OURS = ("benchmarks.", "sweeps.", "analysis.")
_importing = sys.argv[:1] == ["-m"] and any(
    flag == "-m" and module.startswith(_OURS) for flag, module in itertools.pairwise(sys.orig_argv)
)
if _importing and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Where a command is typed Python looks first, and folders named `methods` are common.
_spec = importlib.util.find_spec("methods")
_found = [Path(folder).resolve() for folder in (_spec and _spec.submodule_search_locations) or []]
if _found[:1] != [Path(__file__).resolve().parents[1] / "methods"]:
    _hidden = f"{', '.join(map(str, _found))} hides this project's methods; python -P -m … does not look there"
    if not _importing:
        raise ImportError(_hidden)
    print(f"error: {_hidden}", file=sys.stderr)
    sys.exit(2)
