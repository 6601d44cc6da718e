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
from wsis.engine.output_folders import OutputFolder
from wsis.errors import WsisError
from wsis.modeling.teacher import MapRefiner, Refiner
from wsis.parallel import WorkerPool
from wsis.structures import ImageMaps, ProxyMasks, Seed


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
        refine: what :meth:`wsis.modeling.teacher.Maker.refiner` returned.
        high_bit_depth: ``INPUT.HIGH_BIT_DEPTH``.
        base_seed: ``SEED``.
        folders: where labels and score maps go, on disk before the line is returned.
    """

    refine: Refiner | MapRefiner
    high_bit_depth: str
    base_seed: int
    folders: tuple[OutputFolder, ...] = ()

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
        made = self.refine(seed, image)
        _check(made, seed)
        for folder in self.folders:
            folder.write(seed.file_name, made, seed.void)
        return result_line(
            seed.image_id, mask_records(made) if isinstance(made, ProxyMasks) else []
        )


def _check(made: ProxyMasks | ImageMaps, seed: Seed) -> None:
    """Checks that what a refiner made is of the seed's annotations and size.

    Raises:
        WsisError: it is not.
    """
    ids = list(made.annotation_ids) if isinstance(made, ProxyMasks) else []
    if ids != list(seed.annotation_ids):
        raise WsisError(
            f"image {seed.image_id!r}: the teacher made masks of annotations {ids}, expected "
            f"{list(seed.annotation_ids)}"
        )
    sizes = [label.shape for label in made.sem_seg.values()]
    sizes += [(maps.height, maps.width) for maps in made.score_maps.values()]
    for size in sizes:
        if size != (seed.height, seed.width):
            raise WsisError(
                f"image {seed.image_id!r}: the teacher made a map of {size}, the image has "
                f"{(seed.height, seed.width)} rows and columns"
            )


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
