from __future__ import annotations

import pytest
import torch

from benchmarks.bana_seg import benchmark_bana_seg, plain_noise_aware_loss
from wsis.methods.bana.nal import NoiseParams, noise_aware_loss


def test_both_ways_of_the_loss_agree() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = (2 * torch.rand(2, 5, 9, 8, generator=generator) - 1).requires_grad_()
    y_crf, y_ret = torch.randint(5, (2, 2, 9, 8), generator=generator, dtype=torch.uint8)
    y_crf[:, :2] = 255
    found = []
    for loss in (noise_aware_loss, plain_noise_aware_loss):
        losses = loss(logits, y_crf, y_ret, NoiseParams())
        (gradient,) = torch.autograd.grad(losses["loss_ce"] + losses["loss_wce"], logits)
        found.append((losses["loss_ce"], losses["loss_wce"], gradient))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain)


def test_rows_say_what_was_compared() -> None:
    rows = benchmark_bana_seg(batch=1, crop=32, classes=3, width=1 / 32, repeats=1)
    assert [row["way"].split(",")[0] for row in rows] == ["NAL", "NAL"] + ["eight passes"] * 3
    assert rows[0]["time / plain"] == rows[2]["time / plain"] == pytest.approx(1)
    assert all(row["images / s"] > 0 for row in rows[2:])
    assert all(row["pixels that differ"] < 0.2 for row in rows[2:])
    assert rows[3]["pixels that differ"] == pytest.approx(rows[4]["pixels that differ"], abs=0.01)
    assert all(row["MiB"] >= 0 for row in rows[:2])
