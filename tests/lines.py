"""From a command line's settings to resolved configurations, shared by the tests of `benchmarks`."""

from copy import deepcopy
from functools import cache

import yaml
from omegaconf import DictConfig, OmegaConf

from benchmarks.cli import compose_config
from benchmarks.config import RunConfig
from benchmarks.protocol import resolve
from benchmarks.run import COMMAND
from benchmarks.variants import StudentConfig, Variant

SMALL = ("pair=custom", "pair.teacher=resnet8", "pair.student=resnet8", "data=digits")


@cache
def _composed(choices: tuple[str, ...]) -> DictConfig:
    """Composed once for each choice of method, pair and data set: composing takes a fifth of a second."""
    return compose_config(COMMAND, choices)[0]


def resolved(*arguments: str) -> tuple[RunConfig, list[Variant]]:
    """The run and its variants, as `benchmarks.run` resolves such a line."""
    split = [argument.partition("=") for argument in arguments]
    choices = tuple(sorted(f"{key}={value}" for key, _, value in split if key in COMMAND.groups()))
    config = deepcopy(_composed(choices))
    for key, _, value in split:
        if key not in COMMAND.groups():
            OmegaConf.update(config, key, yaml.safe_load(value))
    return resolve(config, frozenset(key for key, _, _ in split))


def run_of(*arguments: str) -> RunConfig:
    """The run of a line; where it does not say, of kd on digits with a pair of small networks."""
    keys = {argument.partition("=")[0] for argument in arguments}
    defaults = ["method=kd", *(SMALL if "pair" not in keys else SMALL[-1:])]
    return resolved(*(line for line in defaults if line.partition("=")[0] not in keys), *arguments)[0]


def student_of(*arguments: str) -> StudentConfig:
    """The one student of a line, its method as the user gave it."""
    run, (variant,) = resolved(*arguments)
    method = variant.method
    return StudentConfig(method, run.pair, run.data, run.seed, run.train, variant.loss.resolve(method))
