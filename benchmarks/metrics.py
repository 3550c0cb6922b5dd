"""Names of the logged metrics, and how many seeds tell a spread. Needs nothing: readers of logs have no torch."""

from collections.abc import Mapping

EPOCH = "epoch"
LR = "lr"
TRAIN_LOSS = "train/loss"
TRAIN_TOP1 = "train/top1"
EPOCH_SECONDS = "time/epoch_s"
IMAGES_PER_SECOND = "throughput/images_per_s"
PEAK_MEMORY = "memory/peak_gib"

# What may be evaluated on
SPLITS = ("test", "val")

# Summary
TOP1_LAST = "top1_last"  # behind the evaluation split's name, as in test/top1_last
TOP1_BEST = "top1_best"
TEACHER_TOP1 = "teacher/top1"
PRETRAINING_EPOCHS = "pretraining/epochs"  # of a stage before the main training
PRETRAINING_SECONDS = "pretraining/time_s"
STATUS = "status"
ARTIFACTS = "artifacts"  # the file with a run's arrays, where it wrote them

MIN_SEEDS = 3  # for an interval or a test of a difference: two hardly tell their spread
DIGITS = 9  # decimals that count: beyond them only rounding tells values apart that are equal


def train_term(term: str) -> str:
    """Mean of an unweighted loss term over the epoch."""
    return f"train/loss/{term}"


def train_weight(term: str) -> str:
    """Mean over the epoch of what the term was multiplied by: its weight times its schedule's factor."""
    return f"train/weight/{term}"


def diagnostic(name: str) -> str:
    """A figure of the method's own."""
    return f"train/diagnostic/{name}"


def evaluation(split: str, name: str) -> str:
    """`name` on the evaluation split, "test" or "val".

    It is loss, top1, top5, ece, or, of a student that has a teacher, agreement or teacher_kl.
    """
    return f"{split}/{name}"


def top1_of(figures: Mapping[str, float], name: str = "top1") -> tuple[str, float]:
    """The evaluation split that an epoch or, by `TOP1_LAST`, a summary has figures of, and its top-1."""
    split = next(split for split in SPLITS if evaluation(split, name) in figures)
    return split, figures[evaluation(split, name)]
