"""The common harness: command line, pairs, networks, data, training, checkpoints and tracking."""

import itertools
import signal
import sys

# While Python imports a command of ours behind -m, which takes seconds, there is nothing to save, and nobody to
# catch an exception: Ctrl-C just ends it. `benchmarks.cli.main` makes it an exception again.
_OURS = ("benchmarks.", "sweeps.", "analysis.")
_importing = sys.argv[:1] == ["-m"] and any(
    flag == "-m" and module.startswith(_OURS) for flag, module in itertools.pairwise(sys.orig_argv)
)
if _importing and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
