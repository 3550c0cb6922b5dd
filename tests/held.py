"""`python -m tests.held STEP …`: `benchmarks.run …` in a process that stops itself at a step, to get a signal."""

import os
import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from commands import at_step, few_digits, run

if __name__ == "__main__":
    step, *words = sys.argv[1:]
    with few_digits(), at_step(int(step), lambda display: os.kill(os.getpid(), signal.SIGSTOP)):
        sys.exit(run(*words))
