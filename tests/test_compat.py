"""What wsis.compat repairs, on stand-ins of Detectron2 0.6 as published, and process groups."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from torch import distributed, nn

from wsis import compat
from wsis.errors import ConfigError


@pytest.mark.parametrize("folder", [False, True])
def test_missing_detectron2_is_one_line(folder: bool, tmp_path: Path, monkeypatch) -> None:
    if folder:  # a checkout's parent folder: a namespace, not the package
        (tmp_path / "detectron2").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    monkeypatch.delitem(sys.modules, "detectron2")
    with pytest.raises(ConfigError, match="run `wsis install-detectron2`") as caught:
        compat._require_detectron2()
    assert "\n" not in str(caught.value)


def test_names_are_lent_for_the_block_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lending/configs").mkdir(parents=True)
    (tmp_path / "lending/configs/a.yaml").touch()
    (tmp_path / "lending/__init__.py").write_text(
        "import pkg_resources\nfrom PIL import Image\n"
        "def resize(interp=Image.LINEAR):\n    return interp\n"
        "def config():\n    return pkg_resources.resource_filename('lending', 'configs/a.yaml')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pkg_resources", raising=False)
    with compat._lent_names():
        import lending
    assert lending.resize() == PIL.Image.Resampling.BILINEAR
    assert Path(lending.config()).is_file()
    assert not hasattr(PIL.Image, "LINEAR") and "pkg_resources" not in sys.modules
    del sys.modules["lending"]


def test_removed_numpy_names_come_back_in_one_module(tmp_path: Path, monkeypatch) -> None:
    arrays = "np.zeros(2, np.int), np.zeros(2, np.float), np.array(['a'], np.str)"
    text = f"import numpy as np\ndef make():\n    return {arrays}\n"
    (tmp_path / "old_numpy.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compat, "_OLD_NUMPY_MODULES", ("old_numpy",))
    import old_numpy

    with pytest.raises(AttributeError):
        old_numpy.make()
    compat._repair_numpy_names()
    compat._repair_numpy_names()
    assert [array.dtype.kind for array in old_numpy.make()] == ["i", "f", "U"]
    del sys.modules["old_numpy"]


def test_map_dataset_samples_from_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class MapDataset:
        def __init__(self, dataset: Any, map_func: Any) -> None:
            self._rng = random.Random(42)
            self._fallback_candidates = set(range(len(dataset)))

        def draw(self) -> int:
            return self._rng.sample(self._fallback_candidates, k=1)[0]

    monkeypatch.setattr("detectron2.data.common.MapDataset", MapDataset)
    with pytest.raises(TypeError):
        MapDataset("abc", None).draw()
    compat._repair_map_dataset()
    compat._repair_map_dataset()
    assert {MapDataset("abc", None).draw() for _ in range(3)} < {0, 1, 2}


def test_scheduler_hook_keeps_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    class LRScheduler:
        def __init__(self, epoch: int) -> None:
            optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
            self.scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
            self.scheduler.last_epoch = epoch

        def state_dict(self) -> dict[str, Any]:
            known = isinstance(self.scheduler, torch.optim.lr_scheduler._LRScheduler)
            return self.scheduler.state_dict() if known else {}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            if isinstance(self.scheduler, torch.optim.lr_scheduler._LRScheduler):
                self.scheduler.load_state_dict(state)

    monkeypatch.setattr("detectron2.engine.hooks.LRScheduler", LRScheduler)
    assert LRScheduler(7).state_dict() == {}
    compat._repair_scheduler_hook()
    resumed = LRScheduler(0)
    resumed.load_state_dict(LRScheduler(7).state_dict())
    assert resumed.scheduler.last_epoch == 7


@pytest.fixture
def process_group() -> Iterator[None]:
    """Of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("number", [0, 3])
def test_processes_that_machines_cannot_share(number: int) -> None:
    with pytest.raises(ConfigError, match=f"cannot be shared out with {number} per machine"):
        compat.create_local_process_group(number)


@pytest.mark.usefixtures("process_group")
def test_gathers_beside_nccl_wait_as_long_as_they_are_told(monkeypatch) -> None:
    from detectron2.utils import comm

    def waits(group: distributed.ProcessGroup) -> timedelta:
        return group._get_backend(torch.device("cpu")).options._timeout

    original = comm._get_global_gloo_group
    with compat.gather_timeout(timedelta(hours=3)):
        assert comm._get_global_gloo_group is original  # it gathers through the process group
    monkeypatch.setattr(distributed, "get_backend", lambda group=None: "nccl")
    with pytest.raises(KeyError), compat.gather_timeout(timedelta(hours=3)):
        assert waits(comm._get_global_gloo_group()) == timedelta(hours=3)
        raise KeyError
    assert comm._get_global_gloo_group is original


def test_model_is_wrapped_by_detectron2_again_after_an_error() -> None:
    from detectron2.engine import defaults

    original = defaults.create_ddp_model
    with pytest.raises(KeyError), compat.cpu_ddp():
        raise KeyError
    assert defaults.create_ddp_model is original
