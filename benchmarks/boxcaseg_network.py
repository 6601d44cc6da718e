"""What BoxCaseg's network costs, in training and when masks are made, against the plain ways."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.timing import Row, interleave, timing_rows
from wsis.errors import ConfigError
from wsis.methods.boxcaseg.losses import saliency_loss, weak_losses
from wsis.methods.boxcaseg.network import BoxCasegNetwork, FoldedNetwork

_BRANCHES = 4
_SALIENT = 3
"""Every third sample of a step is a salient one."""


def benchmark_boxcaseg_network(
    width: int = 18,
    size: int = 160,
    boxes: int = 8,
    repeats: int = 3,
    device: str = "cpu",
) -> list[Row]:
    """The maps of an image's boxes by the folded full head against both heads; then a training step with
    channels last, and on a GPU in mixed precision, against one without.

    Args:
        width: channels of HRNet's finest branch.
        size: side of the crops in pixels.
        boxes: of the image, and samples of the step.
        repeats: rounds that count.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: found cuda, but this machine has none")
    torch.manual_seed(0)
    network = BoxCasegNetwork([width << i for i in range(_BRANCHES)]).to(device)
    crops = torch.randn(boxes, 3, size, size, device=device)
    rows = _map_rows(network.eval(), crops, repeats)
    return rows + _step_rows(network.train(), crops, repeats)


def _map_rows(network: BoxCasegNetwork, crops: torch.Tensor, repeats: int) -> list[Row]:
    folded = FoldedNetwork(network)
    every = torch.ones(len(crops), dtype=torch.bool, device=crops.device)

    @torch.no_grad()
    def both_heads() -> torch.Tensor:
        return network(crops, every)[1]

    @torch.no_grad()
    def folded_head() -> torch.Tensor:
        return folded(crops)

    plain = "maps, both heads (plain)"
    ways: dict[str, Callable[[], torch.Tensor]] = {plain: both_heads, "maps, folded": folded_head}
    expected = both_heads()
    rows = timing_rows(interleave(ways, repeats), plain)
    for row in rows:
        row["boxes / s"] = len(crops) / row["seconds"]
        off = (ways[row["way"]]() - expected).abs().max() / expected.abs().max()
        row["relative difference"] = off.item()
    return rows


def _step_rows(network: BoxCasegNetwork, crops: torch.Tensor, repeats: int) -> list[Row]:
    labels = (torch.rand(len(crops), 1, *crops.shape[2:], device=crops.device) > 0.5).float()
    salient = torch.arange(len(crops), device=crops.device) % _SALIENT == 0
    on_gpu = crops.device.type == "cuda"

    def step(memory_format: torch.memory_format, mixed: bool) -> None:
        network.zero_grad(set_to_none=True)
        images = crops.contiguous(memory_format=memory_format)
        with torch.autocast(crops.device.type, enabled=mixed):
            weak, full = network(images, salient)
        losses = (*weak_losses(weak, labels), saliency_loss(full, labels[salient]))
        torch.stack(losses).sum().backward()

    plain = "step, channels first (plain)"
    ways: dict[str, Callable[[], None]] = {
        plain: lambda: step(torch.contiguous_format, False),
        "step, channels last": lambda: step(torch.channels_last, False),
    }
    if on_gpu:
        ways["step, channels last, mixed precision"] = lambda: step(torch.channels_last, True)
    peaks = {name: _gpu_peak(work) for name, work in ways.items()} if on_gpu else {}
    rows = timing_rows(interleave(ways, repeats), plain)
    for row in rows:
        row["images / s"] = len(crops) / row["seconds"]
        if on_gpu:
            row["GPU MiB"] = peaks[row["way"]] / 2**20
    return rows


def _gpu_peak(work: Callable[[], None]) -> int:
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()
