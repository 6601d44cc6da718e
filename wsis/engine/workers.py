"""Refinement of seeds, in worker processes or in this one."""

from __future__ import annotations

import random
import zlib
from collections.abc import Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from wsis.data.images import UnreadableImageError, read_image
from wsis.engine.journal import failure_line, mask_records, result_line
from wsis.engine.label_folder import LabelFolder
from wsis.errors import WsisError
from wsis.modeling.teacher import Refiner
from wsis.parallel import WorkerPool
from wsis.structures import Seed


def seed_for_image(base: int, image_id: int | str) -> None:
    """Seeds every generator for one image, so that its result does not depend on those before it.

    Args:
        base: ``SEED``.
        image_id: of the image.
    """
    number = zlib.crc32(f"{base}:{image_id!r}".encode())
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  # the generator that Detectron2 and others draw from
    torch.manual_seed(number)
    cv2.setRNGSeed(number & 0x7FFFFFFF)


@dataclass(frozen=True)
class RefineTask:
    """Refines one image: reads it, seeds the generators, calls the refiner.

    Args:
        refine: what :meth:`wsis.modeling.teacher.Teacher.refiner` returned.
        high_bit_depth: ``INPUT.HIGH_BIT_DEPTH``.
        base_seed: ``SEED``.
        labels: where semantic labels go, on disk before the line is returned.
    """

    refine: Refiner
    high_bit_depth: str
    base_seed: int
    labels: LabelFolder

    def __call__(self, seed: Seed) -> bytes:
        """The journal's line of the image.

        Raises:
            WsisError: the teacher returned something else than it was asked for.
        """
        try:
            image = read_image(seed.file_name, seed.height, seed.width, self.high_bit_depth)
        except UnreadableImageError as error:
            return failure_line(seed.image_id, str(error))
        seed_for_image(self.base_seed, seed.image_id)
        masks = self.refine(seed, image)
        if tuple(masks.annotation_ids) != tuple(seed.annotation_ids):
            raise WsisError(
                f"image {seed.image_id!r}: the teacher made masks of annotations "
                f"{list(masks.annotation_ids)}, expected {list(seed.annotation_ids)}"
            )
        self.labels.write(seed.file_name, masks.sem_seg, seed.void)
        return result_line(seed.image_id, mask_records(masks))


def refine_all(
    seeds: Iterable[Seed | bytes], task: RefineTask, num_workers: int, num_threads: int
) -> Generator[list[bytes], None, None]:
    """Refines images while the next seeds are made.

    Args:
        seeds: drawn one by one, in this process; a line that is finished already passes through.
        task: what to do with a seed.
        num_workers: processes; 0 = in this one.
        num_threads: threads of each.

    Yields:
        The journal's lines, in the order in which they are finished; all that are finished at a
        time together.

    Raises:
        WsisError: a worker has died.
    """
    if num_workers == 0:
        for seed in seeds:
            yield [seed if isinstance(seed, bytes) else task(seed)]
        return
    with WorkerPool(task, num_workers, num_threads) as pool:
        try:
            for seed in seeds:
                lines = [seed] if isinstance(seed, bytes) else []
                if not lines:
                    pool.submit(seed)
                lines += pool.take()
                if lines:
                    yield lines
            while pool.pending:
                yield pool.take(wait_for_one=True)
        except BrokenProcessPool as error:
            raise WsisError(
                "a worker process that refines masks has died (killed? out of memory?); what is finished "
                "is kept: continue with --resume, with a smaller PROXY.NUM_WORKERS if memory is short"
            ) from error
