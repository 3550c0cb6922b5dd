"""The command line of `benchmarks.suite.command`."""

import sys

from benchmarks.cli import main
from benchmarks.suite.command import COMMAND

if __name__ == "__main__":
    sys.exit(main(COMMAND))
