"""The plain distillation loop that throughput is measured against: as KD repositories write it, no slower.

Images are augmented one by one by torchvision in the workers of a DataLoader; everything is float32, eager, in
torch's default layout; each student has a teacher forward of its own; the loss and the accuracy are read at every
step. Networks, methods and protocol are the suite's own, so that the loops differ in how they work alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks import models
from benchmarks.data import DataSet
from benchmarks.protocol import StudentConfig
from benchmarks.teachers import Specs
from benchmarks.training.build import frozen
from benchmarks.vision import torchvision
from methods import build

TRIAL_STEPS = 4  # to find out how many workers serve best


class PlainImages(Dataset[tuple[list[Tensor], int, int]]):
    """Training images, augmented one at a time, in as many views as are asked for."""

    def __init__(self, data: DataSet, num_views: int) -> None:
        transforms = torchvision().transforms
        augmentation = data.augmentation
        steps = [transforms.RandomCrop(data.train.images.shape[-1], padding=augmentation.padding)]
        steps += [transforms.RandomHorizontalFlip()] * augmentation.flip
        steps += [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        self.transform = transforms.Compose(steps)
        self.images = data.train.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets, self.num_views = data.train.targets.tolist(), num_views

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int, int]:
        from PIL import Image

        image = Image.fromarray(self.images[index])
        return [self.transform(image) for _ in range(self.num_views)], self.targets[index], index


class PlainLoop:
    """One student under one teacher.

    Args:
        config: resolved.
        specs: of student and teacher.
        data: the data set.
        device: of the training.
        num_workers: of the DataLoader; None: as many as serve best here, by trial.
    """

    def __init__(
        self,
        config: StudentConfig,
        specs: Specs,
        data: DataSet,
        device: torch.device,
        num_workers: int | None = None,
    ) -> None:
        self.device, self.batch_size = device, config.train.batch_size
        self.student = models.create(config.pair.student, data.num_classes).to(device)
        self.teacher = frozen(models.create(config.pair.teacher, data.num_classes)).to(device)
        targets = data.train.targets.to(device)
        self.method = build(
            config.method, *specs, data.num_classes, targets, torch.Generator(device).manual_seed(0)
        )
        self.method.prepare(self.teacher, self.student)
        self.method.epoch(0)
        train = config.train
        self.optimizer = torch.optim.SGD(
            [*self.student.parameters(), *self.method.parameters()],
            lr=train.lr,
            momentum=train.momentum,
            weight_decay=train.weight_decay,
        )
        self.images = PlainImages(data, self.method.num_views)
        self.num_workers = self._best_num_workers() if num_workers is None else num_workers
        self.batches = self._endless(self.num_workers)

    def _endless(self, num_workers: int) -> Iterator[Any]:
        loader = DataLoader(
            self.images,
            self.batch_size,
            shuffle=True,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.device.type == "cuda",
        )
        while True:
            yield from loader

    def _best_num_workers(self) -> int:
        cores = len(os.sched_getaffinity(0))
        candidates = sorted({0, 1, 2, cores // 2, cores} & set(range(min(cores, 16) + 1)))
        return min(candidates, key=self._seconds_with)

    def _seconds_with(self, num_workers: int) -> float:
        self.batches = self._endless(num_workers)
        self.run(1)  # starts the workers
        started = time.perf_counter()
        self.run(TRIAL_STEPS)
        return time.perf_counter() - started

    def run(self, num_steps: int) -> None:
        """Train for `num_steps` steps."""
        for _ in range(num_steps):
            self._step(*self.next_batch())

    def next_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and indices on the device, with several views one behind the other."""
        views, *labels = next(self.batches)
        images = torch.cat([view.to(self.device, non_blocking=True) for view in views])
        targets, index = (part.to(self.device, non_blocking=True).repeat(len(views)) for part in labels)
        return images, targets, index

    def _step(self, images: Tensor, targets: Tensor, index: Tensor) -> tuple[float, float]:
        preacts = "preacts" in self.method.needs
        with torch.no_grad():
            teacher = self.teacher.features(images, preacts=preacts)
        student = self.method.predict(self.student.features(images, preacts=preacts))
        terms = self.method(student, teacher, targets, index)
        if self.method.active("ce"):
            terms["ce"] = F.cross_entropy(student.logits, targets)
        loss = torch.stack([self.method.config.weights[term] * terms[term] for term in self.method.terms]).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        top1 = (student.logits.argmax(dim=1) == targets).float().mean()
        return loss.item(), top1.item()
