"""A make-believe GPU: tensors that say they are on it are computed on the CPU, and mixing both is the error that a real
one raises. So a machine without a GPU can tell whether every tensor is where it belongs; speed, kernels and rounding of
a real one it cannot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
DEVICE = "meta"
"""Of the make-believe GPU: one that PyTorch knows, asks no driver for, and lets autograd work on."""
_CPU_INDICES = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
"""May index a GPU's tensor by the CPU's."""
_COPIES = (aten.copy_, aten._to_copy, aten.set_)
"""Work across devices."""


class GpuTensor(torch.Tensor):
    """A tensor on the make-believe GPU; ``held`` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> GpuTensor:
        kept = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        kept |= {"dtype": held.dtype, "layout": held.layout, "device": DEVICE}
        return torch.Tensor._make_wrapper_subclass(cls, held.size(), **kept)

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})

    def tolist(self) -> Any:
        """PyTorch itself refuses this of a subclass."""
        return self.cpu().tolist()

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
        """PyTorch itself leaves the values out on this device."""
        return torch.tensor(data, dtype=dtype or self.dtype, device=DEVICE)

    def __getitem__(self, item: Any) -> Any:
        """PyTorch itself would leave the values of a list out."""
        return super().__getitem__(_index(item))

    def __setitem__(self, item: Any, value: Any) -> None:
        """As :meth:`__getitem__`."""
        super().__setitem__(_index(item), value)

    def __repr__(self) -> str:
        return f"GpuTensor({self.held!r})"


class _Everywhere(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    packet = func.overloadpacket
    tensors = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, torch.Tensor)]
    on_gpu = any(isinstance(v, GpuTensor) for v in tensors)
    if on_gpu and packet not in _COPIES:
        looked_at = args[0] if packet in _CPU_INDICES else (args, kwargs)
        found = tree_flatten(looked_at)[0]
        plain = [v for v in found if isinstance(v, torch.Tensor) and not isinstance(v, GpuTensor)]
        if any(v.dim() or packet in _CPU_INDICES for v in plain):
            shapes = [(type(v).__name__, tuple(v.shape)) for v in tensors]
            raise RuntimeError(f"{func}: expected all tensors on the same device, found {shapes}")
    asked = kwargs.get("device")
    to_gpu = on_gpu if asked is None else torch.device(asked).type == DEVICE
    if packet is aten.copy_:
        to_gpu = isinstance(args[0], GpuTensor)
    given = {**kwargs, "device": torch.device("cpu")} if asked is not None else dict(kwargs)
    given.pop("pin_memory", None)
    held = tree_map(_held, (args, given))
    out = func(*held[0], **held[1])
    if asked is not None and packet is aten._to_copy and not to_gpu:
        return out
    if to_gpu:
        out = tree_map(lambda v: GpuTensor(v) if isinstance(v, torch.Tensor) else v, out)
    if on_gpu and to_gpu:
        return return_and_correct_aliasing(func, args, kwargs, out)
    return args[0] if packet is aten.copy_ else out


def _index(item: Any) -> Any:
    if isinstance(item, tuple):
        return tuple(map(_index, item))
    return torch.tensor(item, dtype=torch.int64) if isinstance(item, list) else item


def _held(value: Any) -> Any:
    return value.held if isinstance(value, GpuTensor) else value


@contextlib.contextmanager
def fake_gpu() -> Iterator[None]:
    """In the block tensors and modules can be moved to :data:`DEVICE`."""
    before = {name: getattr(torch, name) for name in ("autocast", "tensor", "as_tensor")}

    def then_moved(name: str) -> Any:
        def make(data: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
            if isinstance(data, torch.Tensor):
                return data.to(device=device or data.device, dtype=dtype or data.dtype)
            made = before[name](data, dtype=dtype)
            return made if device is None else made.to(device)

        return make

    def autocast(device_type: str, *unused: Any, **options: Any) -> Any:
        if device_type != DEVICE:
            raise RuntimeError(f"autocast of {device_type!r}, where the tensors are on {DEVICE!r}")
        return contextlib.nullcontext()

    # on this device PyTorch itself leaves the values out, and it knows no mixed precision there
    torch.tensor, torch.as_tensor = then_moved("tensor"), then_moved("as_tensor")
    torch.autocast = autocast
    try:
        with _Everywhere():
            yield
    finally:
        for name, function in before.items():
            setattr(torch, name, function)
