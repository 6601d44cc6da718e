"""Checkpoints: read as data, never as code, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from torch import nn

from wsis.data.classes import Categories, as_categories, read_classes
from wsis.errors import ConfigError
from wsis.modeling.mxnet_params import read_params
from wsis.modeling.weight_names import with_our_names
from wsis.structures.proxy_file import atomic_writer, remove_torn

NO_WEIGHTS = "MODEL.WEIGHTS: found nothing, expected a file of trained weights"

# What a pickle may refer to: builtin containers and NumPy arrays. ``_codecs.encode`` is how Python
# writes bytes under the old protocols; it maps text to bytes and nothing else.
_ALLOWED = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *((module, "set") for module in ("builtins", "__builtin__")),
    *((module, "frozenset") for module in ("builtins", "__builtin__")),
    *((module, "bytearray") for module in ("builtins", "__builtin__")),
    *((module, "complex") for module in ("builtins", "__builtin__")),
}


class _DataUnpickler(pickle.Unpickler):
    """Admits builtin containers and NumPy arrays, so that loading a file cannot run anything from it."""

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle may refer to.

        Raises:
            pickle.UnpicklingError: it refers to something else.
        """
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"refers to {module}.{name}")
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def load_pickle(stream: IO[bytes]) -> Any:
    """The content of a pickle of arrays and builtin containers, text of Python 2 included.

    Raises:
        pickle.UnpicklingError: it holds anything else.
    """
    return _DataUnpickler(stream, encoding="latin1").load()


class WsisCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with some differences: a file cannot run code (``.pkl`` files hold arrays and builtin
    containers only, ``.safetensors`` and MXNet's ``.params`` nothing else than arrays, all others are read with
    ``weights_only``); what does not fit is an error in one line; a checkpoint appears under its name only once it is
    complete; and weights of the methods' original releases are translated (:mod:`wsis.modeling.weight_names`).

    Args:
        model: the model, wrapped or not.
        save_dir: folder of the checkpoints.
        strict: every parameter and buffer must be in the file with its shape, as evaluation needs it. Otherwise, as for
            pretrained backbones, some parameter must be.
        save_to_disk: default: on the main process.
        categories: the classes of the model, which travel in its checkpoints.
        checkpointables: objects with ``state_dict`` and ``load_state_dict``.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        strict: bool = False,
        save_to_disk: bool | None = None,
        categories: Categories | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.strict = strict
        self.categories = categories
        self._path = ""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads the model and what else the file holds.

        Args:
            path: a file, or anything that Detectron2's path manager knows; "" loads nothing, which only a model
                without parameters and one that is to be trained can do with.
            args, kwargs: ``checkpointables``: names of those to load; None = all.

        Returns:
            What the file holds beyond them.

        Raises:
            ConfigError: there is no path and must be one, or no such file, or it cannot be read as data or does not fit
                the model.
        """
        if not path:
            if self.strict and self.model.state_dict():
                raise ConfigError(NO_WEIGHTS)
            return super().load(path, *args, **kwargs)
        self._path = path
        return super().load(_local_path(path, self.path_manager), *args, **kwargs)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """With ``resume`` everything from the last checkpoint in ``save_dir``, if there is one; it must fit in every
        parameter. Else only the model, from ``path``.

        Raises:
            ConfigError: as :meth:`load`; the last checkpoint is gone.
        """
        resume = resume and self.has_checkpoint()
        self.strict = self.strict or resume
        if resume and not self.path_manager.isfile(self.get_checkpoint_file()):
            raise ConfigError(
                f"--resume: {self.get_checkpoint_file()} is not there, which {self.save_dir}/last_checkpoint names; "
                "write the name of another checkpoint into it, or leave out --resume"
            )
        return super().resume_or_load(path, resume=resume)

    def _load_file(self, filename: str) -> dict[str, Any]:
        with _as_config_error(self._path or filename):
            if filename.endswith(".pkl"):
                with open(filename, "rb") as stream:
                    data = _named_model(load_pickle(stream))
            elif filename.endswith(".params"):
                data = {"model": read_params(filename)}
            elif filename.endswith(".safetensors"):
                data = {"model": _load_safetensors(filename)}
            else:
                data = torch.load(filename, map_location="cpu", weights_only=True)
                if isinstance(data, dict) and "model" not in data:
                    data = {"model": data.get("state_dict", data)}
        model = data.get("model") if isinstance(data, dict) else None
        if not isinstance(model, dict) or not all(isinstance(name, str) for name in model):
            raise ConfigError(f"{self._path or filename}: no weights inside, expected named arrays")
        for name in [n for n, v in model.items() if not isinstance(v, np.ndarray | torch.Tensor)]:
            del model[name]  # no model takes it, and fvcore would stop at it
        ours = self._placed(model)
        if ours is model:
            ours = self._placed(with_our_names(model))
        return data if ours is model else {"model": ours}

    def _placed(self, weights: dict[str, Any]) -> dict[str, Any]:
        """Weights under the model's names, if some of its modules know them under others by a method ``placed``; the
        word of an outer module counts before that of one inside it.
        """
        ours: dict[str, Any] = {}
        for name, module in self.model.named_modules():
            found = module.placed(weights) if hasattr(module, "placed") else None
            for key, value in (found or {}).items():
                ours.setdefault(f"{name}.{key}".removeprefix("."), value)
        return ours or weights

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        found = len(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        incompatible.missing_keys[:] = _really_missing(self.model, incompatible.missing_keys)
        incompatible.unexpected_keys[:] = [
            name
            for name in incompatible.unexpected_keys
            if not name.endswith("num_batches_tracked")
        ]
        reshaped = {name for name, _, _ in incompatible.incorrect_shapes}
        absent = reshaped.union(incompatible.missing_keys)
        parameters = [name for name, _ in self.model.named_parameters()]
        if absent and (self.strict or (parameters and absent.issuperset(parameters))):
            shown = [_describe(name, incompatible.incorrect_shapes) for name in sorted(absent)[:3]]
            raise ConfigError(
                f"{self._path}: the weights do not match the model: of {len(self.model.state_dict())} parameters and "
                f"buffers {len(absent)} are missing or of another shape ({'; '.join(shown)}"
                f"{'; ...' if len(absent) > 3 else ''}); the file has {found}"
            )
        return incompatible

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``save_dir/name.pth`` with the model, the checkpointables and ``kwargs``, and notes it as the last
        one. Killed at any moment, it leaves the previous checkpoint as the last one.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data.update(
            {key: each.state_dict() for key, each in self.checkpointables.items()}, **kwargs
        )
        if self.categories:
            data["categories"] = self.categories
        self.logger.info("Saving checkpoint to %s", os.path.join(self.save_dir, f"{name}.pth"))
        remove_torn(os.path.join(self.save_dir, f"{name}.pth"))
        with atomic_writer(os.path.join(self.save_dir, f"{name}.pth"), "wb") as stream:
            torch.save(data, stream)
        self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Notes the file that ``--resume`` starts from."""
        remove_torn(os.path.join(self.save_dir, "last_checkpoint"))
        with atomic_writer(os.path.join(self.save_dir, "last_checkpoint")) as stream:
            stream.write(last_filename_basename)


def trained_categories(cfg: CfgNode, resume: bool = False) -> Categories:
    """The classes that the weights of a run were trained with, from the checkpoint or from the folder that it lies in;
    nothing where neither knows.

    Args:
        cfg: ``MODEL.WEIGHTS`` and ``OUTPUT_DIR``.
        resume: the last checkpoint of ``OUTPUT_DIR``, if there is one, takes the place of ``MODEL.WEIGHTS``.
    """
    path = cfg.MODEL.WEIGHTS
    if resume:
        last = Path(cfg.OUTPUT_DIR, "last_checkpoint")
        with contextlib.suppress(OSError, UnicodeDecodeError):
            path = str(last.with_name(last.read_text(encoding="utf-8").strip()))
    if not os.path.isfile(path):
        return []
    found: Categories = []
    with contextlib.suppress(Exception):  # whoever loads the weights says what is wrong with them
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found = as_categories(content.get("categories"))
    return found or read_classes(Path(path).parent)


def _local_path(path: str, path_manager: Any) -> str:
    """The file on this machine, fetched if need be.

    Raises:
        ConfigError: there is none.
    """
    try:
        local = path if os.path.isfile(path) else path_manager.get_local_path(path)
    except ConfigError:
        raise
    except Exception as error:  # whatever a handler's network library raises
        raise ConfigError(
            f"MODEL.WEIGHTS: {path} cannot be fetched ({' '.join(str(error).split())}); "
            "download it elsewhere and give the file's path"
        ) from error
    if not os.path.isfile(local):
        cure = (
            "name a checkpoint in it, such as model_final.pth"
            if os.path.isdir(local)
            else "check its path"
        )
        raise ConfigError(f"MODEL.WEIGHTS: {path}: no such file; {cure}")
    return str(local)


def _load_safetensors(filename: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(filename)


@contextlib.contextmanager
def _as_config_error(path: str) -> Iterator[None]:
    """Whatever a broken or hostile file makes the readers raise, in one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        refused = re.search(r"refers to (\S+)|GLOBAL (\S+)|call function (\S+)", text)
        if refused:
            name = next(group for group in refused.groups() if group)
            reason = f"it refers to {name}, and weights are read as data only (tensors, arrays, numbers, text)"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        else:
            reason = f"not a complete file of weights; {type(error).__name__}: {text.partition('. ')[0][:120]}"
        raise ConfigError(f"{path}: cannot be read ({reason})") from error


def _named_model(data: Any) -> Any:
    """The three layouts of ``.pkl`` weights: Detectron2's own, Detectron's (``blobs``) and Caffe2's (names at the top);
    the latter two have names that the parent class translates.
    """
    if not isinstance(data, dict) or ("model" in data and "__author__" in data):
        return data
    blobs = data.get("blobs", data)
    weights = {name: value for name, value in blobs.items() if not str(name).endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _really_missing(model: nn.Module, names: list[str]) -> list[str]:
    """Without what a file may lack: batch norms' counters (a frozen norm has none) and tensors that the model holds
    under a second name, which is in the file.
    """
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors.update(model.named_buffers(remove_duplicate=False))
    missing = set(names)
    loaded = {id(tensor) for name, tensor in tensors.items() if name not in missing}
    return [
        name
        for name in names
        if not name.endswith("num_batches_tracked") and id(tensors.get(name)) not in loaded
    ]


def _describe(name: str, shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> str:
    for other, found, expected in shapes:
        if other == name:
            return f"{name}: {tuple(found)} in the file, {tuple(expected)} in the model"
    return f"{name}: missing"
