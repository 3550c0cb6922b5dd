"""The plain distillation loop that ours is measured against: as KD repositories write it, no slower.

Images are augmented one by one by torchvision in the workers of a DataLoader; everything is float32, eager, in
torch's default layout; each student has a teacher forward of its own; the loss and the accuracy are read at every
step. Networks, methods and protocol are the suite's own, so that the loops differ in how they work alone.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR
from torch.utils.data import DataLoader, Dataset

from benchmarks.config import LrSchedule
from benchmarks.data import DataSet, Split, steps_per_epoch
from benchmarks.models import Network
from benchmarks.training.build import build_method, build_network
from benchmarks.training.layout import laid_out
from benchmarks.training.member import Classifier
from benchmarks.variants import Specs, StudentConfig
from benchmarks.vision import torchvision
from methods import Features
from methods.schedules import LossWeights

TRIAL_STEPS = 4  # to find out how many workers serve best
EVALUATION_BATCH = 500


class PlainImages(Dataset[tuple[list[Tensor], int, int]]):
    """Images of a split as float32, one at a time.

    Args:
        data: the data set.
        split: of it.
        num_views: augmented views of each image; None: the image itself.
        turned: whether view k is turned by k quarter turns, and mirrored as all are.
    """

    def __init__(self, data: DataSet, split: Split, num_views: int | None = None, turned: bool = False) -> None:
        transforms = torchvision().transforms
        augmentation = data.augmentation
        steps = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        flip = [transforms.RandomHorizontalFlip()] * augmentation.flip if num_views else []
        crop = [transforms.RandomCrop(split.images.shape[-1], padding=augmentation.padding)] if num_views else []
        self.of_all = transforms.Compose(flip if turned else [])
        self.of_each = transforms.Compose([*crop, *([] if turned else flip), *steps])
        self.images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets, self.num_views, self.turned = split.targets.tolist(), num_views or 1, turned

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int, int]:
        from PIL import Image

        image = self.of_all(Image.fromarray(self.images[index]))
        views = [self.of_each(image) for _ in range(self.num_views)]
        if self.turned:
            views = [view.rot90(turns, (1, 2)) for turns, view in enumerate(views)]
        return views, self.targets[index], index


class PlainLoop:
    """One student under one teacher.

    Args:
        config: resolved; the main training's optimiser is plain SGD, and a stage before it is left out.
        specs: of student and teacher.
        data: the data set.
        teacher: frozen; it is laid out as torch does by default. None where the method needs none.
        device: of the training.
        num_workers: of the DataLoader; None: as many as serve best here, by trial, which trains a little.
        loaders: endless batches by the views that a method wants, to be shared with other loops; default: its own.
    """

    def __init__(
        self,
        config: StudentConfig,
        specs: Specs,
        data: DataSet,
        teacher: Network | None,
        device: torch.device,
        num_workers: int | None,
        loaders: dict[tuple[int, bool], Iterator[Any]] | None = None,
    ) -> None:
        self.config, self.data, self.device, train = config, data, device, config.train
        network = build_network(config.pair.student, data.num_classes, config.seed, device)
        self.student = laid_out(network, torch.contiguous_format)
        self.method = build_method(config, specs, data.train.targets.to(device))
        self.classifier = Classifier(self.student, self.method)
        self.teacher = teacher
        if teacher is not None:
            self.method.prepare(laid_out(teacher, torch.contiguous_format), self.student)
        self.optimizer = torch.optim.SGD(
            [*self.student.parameters(), *self.method.parameters()],
            lr=train.lr,
            momentum=train.momentum,
            weight_decay=train.weight_decay,
        )
        self.rates = self._rates()
        self.images = PlainImages(data, data.train, *self._views)
        self.steps_per_epoch = steps_per_epoch(len(self.images), train.batch_size, train.max_steps)
        self.weights = torch.tensor([self.method.config.weights[term] for term in self.method.terms], device=device)
        num_steps = train.epochs * self.steps_per_epoch
        self.schedule = LossWeights(config.loss, self.method.terms, num_steps).to(device)
        self.step = 0
        self.method.epoch(0)
        self.num_workers = self._best_num_workers() if num_workers is None else num_workers
        loaders = {} if loaders is None else loaders
        self.batches = loaders.setdefault(self._views, self._endless(self.num_workers))

    @property
    def _views(self) -> tuple[int, bool]:
        return self.method.num_views, self.method.turned

    def _rates(self) -> LRScheduler:
        train = self.config.train
        if train.schedule == LrSchedule.cosine:
            return CosineAnnealingLR(self.optimizer, train.epochs)
        return MultiStepLR(self.optimizer, train.milestones, train.decay)

    def _endless(self, num_workers: int) -> Iterator[Any]:
        loader = DataLoader(
            self.images,
            self.config.train.batch_size,
            shuffle=True,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.device.type == "cuda",
        )
        while True:
            yield from itertools.islice(loader, self.steps_per_epoch)

    def _best_num_workers(self) -> int:
        most = most_workers()
        candidates = sorted({0, 1, 2, most // 2, most} & set(range(most + 1)))
        return min(candidates, key=self._seconds_with)

    def _seconds_with(self, num_workers: int) -> float:
        self.batches = self._endless(num_workers)
        self.run(1)  # starts the workers
        started = time.perf_counter()
        self.run(TRIAL_STEPS)
        return time.perf_counter() - started

    def run(self, num_steps: int) -> float:
        """Train for `num_steps` steps; returns the student's accuracy in them, in percent."""
        return 100 * sum(self._step(*self.next_batch())[1] for _ in range(num_steps)) / num_steps

    def run_epoch(self) -> float:
        """Train for the next epoch of the protocol; returns the student's accuracy in it, in percent."""
        self.method.epoch(self.rates.last_epoch)
        top1 = self.run(self.steps_per_epoch)
        self.rates.step()
        return top1

    def next_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and indices on the device, with several views one behind the other."""
        views, *labels = next(self.batches)
        images = torch.cat([view.to(self.device, non_blocking=True) for view in views])
        targets, index = (part.to(self.device, non_blocking=True).repeat(len(views)) for part in labels)
        return images, targets, index

    def _step(self, images: Tensor, targets: Tensor, index: Tensor) -> tuple[float, float]:
        """One step; returns the loss and the accuracy in [0, 1]."""
        self.schedule.advance(self.step % self.schedule.num_steps)  # timing may go on behind the end
        student = self.classifier.features(images, self.method.needs)
        taught = self._taught(images)
        terms = {} if taught is None else self.method(student, taught, targets, index)
        logits, targets = map(self.method.labelled, (student.logits, targets))
        if self.method.active("ce"):
            terms["ce"] = F.cross_entropy(logits, targets)
        losses = torch.stack([terms[term] for term in self.method.terms])
        loss = (self.weights * self.schedule.factors * losses).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.observe(losses.detach())
        self.step += 1
        top1 = (logits.argmax(dim=1) == targets).float().mean()
        return loss.item(), top1.item()

    @torch.no_grad()
    def _taught(self, images: Tensor) -> Features | None:
        if self.teacher is None or not self.method.needs:
            return None
        return self.teacher.features(images, preacts="preacts" in self.method.needs)

    @torch.no_grad()
    def accuracy(self) -> float:
        """Top-1 on the evaluation split, in percent."""
        self.classifier.eval()
        loader = DataLoader(PlainImages(self.data, self.data.evaluation), EVALUATION_BATCH)
        hits = 0
        for (images,), targets, _ in loader:
            logits = self.classifier(images.to(self.device))
            hits += int((logits.argmax(dim=1).cpu() == targets).sum())
        self.classifier.train()
        return 100 * hits / len(self.data.evaluation)


def most_workers() -> int:
    """Workers of a DataLoader that can be of use on this machine."""
    assigned = hasattr(os, "sched_getaffinity")  # not on macOS
    return min(len(os.sched_getaffinity(0)) if assigned else os.cpu_count() or 1, 16)
