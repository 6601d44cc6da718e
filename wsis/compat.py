"""The only module that knows which Detectron2 and PyTorch are installed.

Importing it checks that Detectron2 is there and, where others installed it (0.6 as published, or the
main branch), repairs what its code lacks on current dependencies. Detectron2 as installed by
``tools/install_detectron2.py`` needs none of this and stays as it is; so does whatever wsis does not
use (0.6's caffe2 export). Every repair looks at the code that it repairs, never at a version number.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import random
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import distributed, nn

from wsis.errors import ConfigError

# Modules of Detectron2 0.6 that use type names which NumPy 1.24 removed.
_OLD_NUMPY_MODULES = (
    "detectron2.data.build",
    "detectron2.data.datasets.pascal_voc",
    "detectron2.evaluation.sem_seg_evaluation",
)


def _require_detectron2() -> None:
    """Raise ConfigError unless Detectron2 is installed (a mere folder of that name does not count)."""
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "Detectron2 is not installed: run `wsis install-detectron2` (in a checkout "
            "`python tools/install_detectron2.py`; `make install` does so), or install Detectron2 0.6 or its main "
            "branch yourself"
        )


@contextlib.contextmanager
def _lent_names() -> Iterator[None]:
    """Lend, for the imports inside the block only, names that dependencies dropped.

    ``PIL.Image.LINEAR`` (gone since Pillow 10) is a default argument in 0.6's transforms; with
    ``pkg_resources`` (deprecated, gone since setuptools 82) ``detectron2.model_zoo``, main's too, finds
    its configs.
    """
    image_module: Any = PIL.Image
    stand_in: Any = ModuleType("pkg_resources")

    def resource_filename(package: str, path: str) -> str:
        return os.path.join(os.path.dirname(str(sys.modules[package].__file__)), path)

    lend_linear = not hasattr(PIL.Image, "LINEAR")
    lend_resources = "pkg_resources" not in sys.modules
    if lend_linear:
        image_module.LINEAR = PIL.Image.Resampling.BILINEAR
    if lend_resources:
        stand_in.resource_filename = resource_filename
        sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        if lend_linear:
            del image_module.LINEAR
        if lend_resources:
            del sys.modules["pkg_resources"]


class _OldNumpy:
    """NumPy plus the type names that NumPy 1.24 removed, for one module instead of the process."""

    int, float, str = int, float, str

    def __getattr__(self, name: Any) -> Any:  # `str` is the attribute here
        return getattr(np, name)


class _SetRandom(random.Random):
    """A generator whose ``sample`` still takes a set, as it did before Python 3.11."""

    def sample(self, population: Any, k: int, **kwargs: Any) -> list[Any]:
        """Return ``k`` elements of ``population``, a set of orderable values or a sequence."""
        ordered = sorted(population) if isinstance(population, set) else population
        return super().sample(ordered, k, **kwargs)


def _repair_numpy_names() -> None:
    """Give 0.6's modules ``np.int``, ``np.float`` and ``np.str`` back."""
    for name in _OLD_NUMPY_MODULES:
        module: Any = importlib.import_module(name)
        if re.search(r"\bnp\.(int|float|str)\b", inspect.getsource(module)):
            module.np = _OldNumpy()


def _repair_map_dataset() -> None:
    """Let 0.6's ``MapDataset`` survive a mapper that returns None (it samples from a set)."""
    from detectron2.data.common import MapDataset

    if "sample(self._fallback_candidates" not in inspect.getsource(MapDataset):
        return
    original = MapDataset.__init__

    def __init__(self: Any, dataset: Any, map_func: Any) -> None:
        original(self, dataset, map_func)
        self._rng = _SetRandom(42)

    MapDataset.__init__ = __init__


def _repair_scheduler_hook() -> None:
    """Let 0.6's ``LRScheduler`` hook save PyTorch's own schedulers, which are no ``_LRScheduler`` now."""
    from detectron2.engine import hooks

    if "lr_scheduler._LRScheduler" not in inspect.getsource(hooks.LRScheduler):
        return

    def state_dict(self: Any) -> dict[str, Any]:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.LRScheduler):
            return self.scheduler.state_dict()
        return {}

    def load_state_dict(self: Any, state: dict[str, Any]) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.LRScheduler):
            self.scheduler.load_state_dict(state)

    hooks.LRScheduler.state_dict = state_dict
    hooks.LRScheduler.load_state_dict = load_state_dict


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Create the process group of this machine's ranks, from which ``comm`` takes local ranks.

    All ranks call it together, once, after ``torch.distributed.init_process_group``.

    Args:
        num_workers_per_machine (int): processes per machine; ranks of one machine are consecutive.

    Raises:
        ConfigError: the world size is not a multiple of ``num_workers_per_machine``.
    """
    from detectron2.utils import comm

    world_size = distributed.get_world_size()
    if num_workers_per_machine < 1 or world_size % num_workers_per_machine != 0:
        raise ConfigError(
            f"{world_size} processes cannot be shared out with {num_workers_per_machine} per machine"
        )
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(num_workers_per_machine)
        return
    for first in range(0, world_size, num_workers_per_machine):
        ranks = list(range(first, first + num_workers_per_machine))
        group = distributed.new_group(ranks)
        if distributed.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group


@contextlib.contextmanager
def gather_timeout(timeout: timedelta) -> Iterator[None]:
    """Let ``comm`` wait so long for the other ranks when it gathers objects, as long as the block lasts.

    Where the ranks talk by nccl, Detectron2 gathers through a group of gloo beside it, to which it gives PyTorch's
    half an hour, however long the process group itself waits. All ranks enter the block together, after
    ``torch.distributed.init_process_group``.
    """
    from detectron2.utils import comm

    if distributed.get_backend() != "nccl":  # then it gathers through the process group
        yield
        return
    original = comm._get_global_gloo_group
    group = distributed.new_group(backend="gloo", timeout=timeout)
    comm._get_global_gloo_group = lambda: group
    try:
        yield
    finally:
        comm._get_global_gloo_group = original


@contextlib.contextmanager
def cpu_ddp() -> Iterator[None]:
    """Let ``DefaultTrainer`` wrap a CPU model, as long as the block lasts.

    Detectron2 passes ``device_ids=[local rank]`` to DistributedDataParallel, which refuses that for a
    model on CPU. A model on another device is wrapped as Detectron2 does it.
    """
    from detectron2.engine import defaults

    original = defaults.create_ddp_model

    def create_ddp_model(model: nn.Module, **kwargs: Any) -> nn.Module:
        if all(parameter.device.type == "cpu" for parameter in model.parameters()):
            kwargs.setdefault("device_ids", None)
        return original(model, **kwargs)

    defaults.create_ddp_model = create_ddp_model
    try:
        yield
    finally:
        defaults.create_ddp_model = original


_require_detectron2()
with _lent_names():
    importlib.import_module("detectron2.model_zoo")
_repair_numpy_names()
_repair_map_dataset()
_repair_scheduler_hook()
