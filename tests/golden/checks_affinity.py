"""Recorded pairs, labels, losses and random walks of IRNet (in BAS) and AffinityNet (in ICAM)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.golden.compare import Comparison, absolute, each, exact, relative, share
from tests.golden.frame import Arrays, cases, check, tensor
from wsis.layers.affinity import (
    PairLabels,
    affinity_losses,
    at_offset,
    displacement_losses,
    feature_affinities,
    fitting_radius,
    pair_labels,
    pair_offsets,
    path_affinities,
    path_cells,
)
from wsis.layers.random_walk import pairs_of_edges, pairs_of_window, random_walk
from wsis.layers.seeds import affinity_labels, label_map, power_background
from wsis.methods.irn.config import WalkParams
from wsis.structures import ScoreMaps

NEAR_TIES = 1e-3
"""Share of pixels whose two best scores may change places."""


def grid(height: int, width: int) -> Tensor:
    """The flat index of each cell."""
    return torch.arange(height * width).view(height, width)


@check(
    "bas",
    "irn_affinity_losses",
    "radius size search_dst src_indices dst_indices n_path_groups search_paths_# segm aff_bg_pos aff_fg_pos aff_neg"
    " edge_logits displacement affinity pos_aff_loss neg_aff_loss dp_fg_loss dp_bg_loss total grad_edge grad_dp",
)
def bas_irn_affinity_losses(arrays: Arrays) -> Iterator[Comparison]:
    """Pairs and the ways between them, whose recorded order is another; their labels, losses and gradients."""
    radius, offsets = int(arrays["radius"]), pair_offsets(int(arrays["radius"]))
    order = [offsets.index(tuple(offset)) for offset in arrays["search_dst"].tolist()]
    groups = cases(arrays, "search_paths_#")
    paths = [set(map(tuple, path)) for i in groups for path in arrays[f"search_paths_{i}"].tolist()]
    cells = grid(*arrays["size"].tolist())
    label = pair_labels(tensor(arrays["segm"])[None], radius)
    edge, field = (tensor(arrays[n]).requires_grad_() for n in ("edge_logits", "displacement"))
    affinity = path_affinities(edge[:, 0].sigmoid(), radius)
    labels = PairLabels(*(each.expand(len(edge), -1, -1, -1) for each in label))
    losses = affinity_losses(affinity, labels)
    foreground, background = displacement_losses(field, labels, radius)
    total = losses.total() + (foreground + background) / 2
    total.backward()
    indices = {
        "search_dst": np.array(offsets)[order],
        "src_indices": at_offset(cells, (0, 0), radius).flatten(),
        "dst_indices": torch.stack([at_offset(cells, offsets[i], radius) for i in order]).flatten(
            1
        ),
        "n_path_groups": len(groups),
    }
    recorded = dict(zip(("aff_bg_pos", "aff_fg_pos", "aff_neg"), label, strict=True))
    values = {
        "affinity": affinity[:, order].flatten(2),
        "pos_aff_loss": (losses.background + losses.foreground) / 2,
        "neg_aff_loss": losses.different,
        "dp_fg_loss": foreground,
        "dp_bg_loss": background,
        "total": total,
    }
    yield from each(arrays, indices)
    yield exact("paths", len(paths), len(offsets))
    yield exact("ways", [set(path_cells(offsets[i])) for i in order] == paths, True)
    yield from each(arrays, {n: v[0, order].flatten(1) for n, v in recorded.items()})
    yield from each(arrays, values, relative, 1e-5)
    yield from each(arrays, {"grad_edge": edge.grad, "grad_dp": field.grad}, relative, 1e-4)


@check("bas", "irn_random_walk", "cam edge rw_beta10_exp8 rw_beta10_exp3 orig_size keys label")
def bas_irn_random_walk(arrays: Arrays) -> Iterator[Comparison]:
    """Few and many steps along the edges' affinities, and the label."""
    edge, radius = tensor(arrays["edge"]), 5
    affinity = pairs_of_edges(edge[0], radius)
    for number in cases(arrays, "rw_beta10_exp#"):
        walked = random_walk(
            tensor(arrays["cam"]).pow(1.5) * (1 - edge), affinity, radius, 10, 2**number
        )
        name = f"rw_beta10_exp{number}"
        yield relative(name, walked[:, None], arrays[name], 1e-3)
    labels = (arrays["keys"] + 1).tolist()
    pixels = ScoreMaps(
        np.array(labels), walked.numpy(), *arrays["orig_size"].tolist(), 4
    ).enlarged()
    label = label_map(pixels / pixels.amax(), labels, WalkParams.background)
    yield share("label", label, arrays["label"], NEAR_TIES)


LABELS = "la_cell ha_cell fused radius bg fg neg aff bg_loss fg_loss neg_loss loss grad_aff"


@check("icam", "aff_labels", LABELS)
def icam_aff_labels(arrays: Arrays) -> Iterator[Comparison]:
    """Cells from two CRF maps, pairs from cells, losses of random affinities."""
    low, high = (tensor(arrays[name]).permute(2, 0, 1) for name in ("la_cell", "ha_cell"))
    cells = affinity_labels(low, high, range(1, len(low)))
    labels = pair_labels(cells[None], int(arrays["radius"]))
    affinity = tensor(arrays["aff"]).view(labels.background.shape).requires_grad_()
    losses = affinity_losses(affinity, labels)
    losses.total().backward()
    assert affinity.grad is not None
    pairs = dict(zip(("bg", "fg", "neg"), labels, strict=True))
    found = {f"{name}_loss": loss for name, loss in zip(pairs, losses, strict=True)}
    yield exact("fused", cells, arrays["fused"])
    yield from each(arrays, {name: pair[0].flatten(1) for name, pair in pairs.items()})
    yield from each(arrays, found | {"loss": losses.total()}, absolute, 1e-5)
    yield absolute("grad_aff", affinity.grad.flatten(2), arrays["grad_aff"], 1e-6)


WEIGHTS = ("w_f8_3", "w_f8_4", "w_f8_5")


@check(
    "icam",
    "affnet_pairs",
    f"conv4 conv5 conv6 {' '.join(WEIGHTS)} w_f9 radius ind_from ind_to aff dense",
)
def icam_affnet_pairs(arrays: Arrays) -> Iterator[Comparison]:
    """Affinities of the network's features, as pairs and as a matrix."""
    parts = [
        functional.elu(functional.conv2d(tensor(arrays[layer]), tensor(arrays[name])))
        for layer, name in zip(("conv4", "conv5", "conv6"), WEIGHTS, strict=True)
    ]
    features = functional.elu(functional.conv2d(torch.cat(parts, dim=1), tensor(arrays["w_f9"])))
    height, width = features.shape[2:]
    radius = fitting_radius(5, height, width)
    affinity, cells = feature_affinities(features, radius), grid(height, width)
    here = at_offset(cells, (0, 0), radius).flatten()
    there = torch.stack([at_offset(cells, offset, radius) for offset in pair_offsets(radius)])
    dense = torch.eye(height * width)
    for index, values in zip(there.flatten(1), affinity[0].flatten(1), strict=True):
        dense[here, index] = dense[index, here] = values
    yield from each(arrays, {"radius": radius, "ind_from": here, "ind_to": there.flatten(1)}, exact)
    yield from each(arrays, {"aff": affinity.flatten(2), "dense": dense}, absolute, 1e-5)


@check(
    "icam",
    "random_walk",
    "ind_from ind_to aff cam keys alpha beta logt num_classes radius cell_hw trans_col0 rw_low label",
)
def icam_random_walk(arrays: Arrays) -> Iterator[Comparison]:
    """From maps at the image's size to cells, the walk, a column of its matrix, the label."""
    (rows, columns), radius = arrays["cell_hw"].tolist(), int(arrays["radius"])
    cells, maps = grid(rows, columns), tensor(arrays["cam"])
    here = at_offset(cells, (0, 0), radius)
    there = torch.stack([at_offset(cells, offset, radius) for offset in pair_offsets(radius)])
    affinity = pairs_of_window(tensor(arrays["aff"]).view(there.shape), radius)
    beta, steps = float(arrays["beta"]), 2 ** int(arrays["logt"])
    scores = torch.cat([power_background(maps, float(arrays["alpha"])), maps])
    height, width = maps.shape[1:]
    padded = functional.pad(scores, (0, 8 * columns - width, 0, 8 * rows - height))
    walked = random_walk(functional.avg_pool2d(padded, 8), affinity, radius, beta, steps)
    units = torch.eye(rows * columns).unflatten(1, (rows, columns))
    column = random_walk(units, affinity, radius, beta, steps)[:, 0, 0]
    large = functional.interpolate(walked[None], scale_factor=8, mode="bilinear")[0]
    large = large[:, :height, :width]
    assert int(arrays["num_classes"]) > arrays["keys"].max()
    label = label_map(large[1:], (arrays["keys"] + 1).tolist(), large[:1])
    yield from each(arrays, {"ind_from": here.flatten(), "ind_to": there.flatten(1)})
    yield from each(arrays, {"trans_col0": column, "rw_low": walked}, absolute, 1e-4)
    yield share("label", label, arrays["label"], NEAR_TIES)
