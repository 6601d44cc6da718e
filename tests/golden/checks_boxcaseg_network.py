"""Recorded losses, heads, network, schedule and student's loss of BoxCaseg."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from detectron2.layers import ShapeSpec
from torch.nn import functional as F

from tests.golden.compare import Comparison, absolute, each, exact, relative
from tests.golden.frame import Arrays, cases, check, tags, tensor
from wsis.config import get_cfg
from wsis.engine.solver import build_poly_schedule
from wsis.layers.box_losses import line_maxima, smoothness_loss, tightness_loss
from wsis.methods.boxcaseg.config import BoxCasegParams
from wsis.methods.boxcaseg.losses import saliency_loss, weak_losses
from wsis.methods.boxcaseg.network import BoxCasegNetwork, FoldedNetwork, WeightTransfer
from wsis.modeling.proxy_mask_head import MaskTargets, ProxyMaskHead

LOSS, GRADIENT = 1e-6, 1e-7
PAIRWISE = ("logits", "loss", "grad")
JOINT = ("weakly", "labels", "out_weak", "out_full", "grad_out_weak", "grad_out_full")
JOINT += ("loss_total", "loss_mil", "loss_pairwise", "loss_full")
STUDENT = ("mask_logits", "matched_labels", "positive_index", "mask_targets", "conf_pos", "kept")
STUDENT += ("loss", "grad_pos", "grad_abs_sum_elsewhere")


def _part(arrays: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    """The arrays whose names begin so, under the rest of their names."""
    return {n.removeprefix(prefix): tensor(arrays[n]) for n in arrays if n.startswith(prefix)}


@check(
    "boxcaseg", "mil_loss", "logits labels pred_bags label_bags loss loss_per_sample grad_logits"
)
def boxcaseg_mil_loss(arrays: Arrays) -> Iterator[Comparison]:
    """Bags, loss and gradient, ties included."""
    logits, labels = tensor(arrays["logits"]).requires_grad_(), tensor(arrays["labels"])
    per_sample = tightness_loss(logits, labels)
    (gradient,) = torch.autograd.grad(per_sample.mean(), logits)
    bags = {"pred_bags": line_maxima(logits), "label_bags": line_maxima(labels)}
    yield from each(arrays, bags)
    losses = {"loss_per_sample": per_sample, "loss": per_sample.mean()}
    yield from each(arrays, losses, absolute, LOSS)
    yield absolute("grad_logits", gradient, arrays["grad_logits"], GRADIENT)


@check("boxcaseg", "pairwise_loss")
def boxcaseg_pairwise_loss(arrays: Arrays) -> Iterator[Comparison]:
    """Every map's loss and gradient."""
    for tag in tags(arrays, PAIRWISE):
        logits = tensor(arrays[f"{tag}_logits"]).requires_grad_()
        loss = BoxCasegParams.pairwise_weight * smoothness_loss(logits).mean()
        (gradient,) = torch.autograd.grad(loss, logits)
        yield absolute(f"{tag}_loss", loss, arrays[f"{tag}_loss"], 1e-7)
        yield absolute(f"{tag}_grad", gradient, arrays[f"{tag}_grad"], 1e-8)


@check("boxcaseg", "joint_objective")
def boxcaseg_joint_objective(arrays: Arrays) -> Iterator[Comparison]:
    """The three losses of a batch, and gradients through the upsampling; boxes without a salient sample too."""
    for tag in tags(arrays, JOINT):
        salient = tensor(arrays[f"{tag}_weakly"]) == 0
        labels = tensor(arrays[f"{tag}_labels"])
        weak, full = (tensor(arrays[f"{tag}_out_{n}"]).requires_grad_() for n in ("weak", "full"))
        tightness, smoothness = weak_losses(weak, labels)
        saliency = saliency_loss(full[: int(salient.sum())], labels[salient])
        total = tightness + smoothness + saliency
        losses = {"total": total, "mil": tightness, "pairwise": smoothness, "full": saliency}
        yield from each(arrays, losses, absolute, LOSS, case=f"{tag}_loss_{{}}")
        gradients = torch.autograd.grad(total, (weak, full))
        found = dict(zip(("weak", "full"), gradients, strict=True))
        yield from each(arrays, found, absolute, GRADIENT, case=f"{tag}_grad_out_{{}}")


@check(
    "boxcaseg",
    "transfer",
    "src_weight src_bias feature out transferred_weight grad_out grad_feature",
)
def boxcaseg_transfer(arrays: Arrays) -> Iterator[Comparison]:
    """A predicted convolution, and all gradients."""
    weight, bias = tensor(arrays["src_weight"]), tensor(arrays["src_bias"])
    module = WeightTransfer(weight.shape[1])
    module.load_state_dict(_part(arrays, "sd/"))
    feature = tensor(arrays["feature"]).requires_grad_()
    predicted, new_bias = module(weight, bias)
    answer = F.conv2d(feature, predicted[:, :, None, None], new_bias)
    answer.backward(tensor(arrays["grad_out"]))
    found = {"transferred_weight": predicted, "out": answer, "grad_feature": feature.grad}
    found |= {f"gradp/{name}": p.grad for name, p in module.named_parameters()}
    yield from each(arrays, found, relative, 1e-5)


def _recorded_network(arrays: Arrays) -> BoxCasegNetwork:
    state = _part(arrays, "sd/")
    modules = [len(cases(arrays, f"sd/stage{i}.#.branches.0.0.conv1.weight")) for i in (2, 3, 4)]
    network = BoxCasegNetwork(
        arrays["channels"].tolist(),
        stage1_width=len(state["layer1.0.conv1.weight"]),
        blocks=len(cases(arrays, "sd/layer1.#.conv1.weight")),
        modules=modules,
        fcn_ratio=float(arrays["fcn_ratio"]),
    )
    network.load_state_dict(state)
    return network


@check(
    "boxcaseg",
    "hrnet_small",
    "x f_index fcn_ratio channels sd/conv1.weight running_mean_transfer_bn_after"
    " eval_weak eval_full eval_full_when_no_salient train_weak train_full",
)
def boxcaseg_hrnet_small(arrays: Arrays) -> Iterator[Comparison]:
    """Both heads in eval and train mode under the recorded names, gradients, and the network made for inference."""
    images, salient = tensor(arrays["x"]), tensor(arrays["f_index"])
    if not salient.any():  # the reference has its full head run on the first one then
        salient = torch.arange(len(images)) == 0
    network = _recorded_network(arrays).eval()
    with torch.no_grad():
        weak, full = network(images, salient)
        alone = network.full(network.features(images)[:1])
        folded = FoldedNetwork(network)(images[salient])
    found = {"eval_weak": weak, "eval_full": full, "eval_full_when_no_salient": alone}
    network.train()
    weak, full = network(images, salient)
    found |= {"train_weak": weak, "train_full": full}
    (full.flatten() * torch.linspace(-1, 2, full.numel())).sum().backward()
    yield from each(arrays, found, relative, 1e-4)
    yield relative("folded", folded, arrays["eval_full"], 1e-4)
    for name, expected in _part(arrays, "fullgrad/").items():
        gradient = network.get_parameter(name).grad
        gradient = torch.zeros_like(expected) if gradient is None else gradient
        yield relative(f"fullgrad/{name}", gradient, expected, 1e-3)
    mean = {"running_mean_transfer_bn_after": network.transfer_bn.running_mean}
    yield from each(arrays, mean, relative, 1e-4)


@lru_cache
def _published_layout() -> dict[str, str]:
    """Names and shapes of the full-size network."""
    with torch.device("meta"):
        network = BoxCasegNetwork((48, 96, 192, 384))
    return {name: ",".join(map(str, value.shape)) for name, value in network.state_dict().items()}


@check("boxcaseg", "hrnet_w48_state_dict_keys", "name shape")
def boxcaseg_keys(arrays: Arrays) -> list[Comparison]:
    """All names and shapes of the published checkpoints."""
    layout = _published_layout()
    expected = dict(zip(arrays["name"].tolist(), arrays["shape"].tolist(), strict=True))
    return [
        exact("name", sorted(layout), sorted(expected)),
        exact("shape", [layout.get(name, "absent") for name in expected], list(expected.values())),
    ]


def _head(threshold: float) -> ProxyMaskHead:
    shape = ShapeSpec(channels=1, height=1, width=1)
    return ProxyMaskHead(
        shape, num_classes=1, conv_dims=[1], score_mode="threshold", score_threshold=threshold
    )


@check("boxcaseg", "mask_head_loss", "threshold")
def boxcaseg_mask_head_loss(arrays: Arrays) -> Iterator[Comparison]:
    """The student's loss on recorded matches, targets and confidences."""
    head = _head(float(arrays["threshold"]))
    for tag in tags(arrays, STUDENT):
        logits, labels, scores, target = (
            tensor(arrays[f"{tag}_{n}"])
            for n in ("mask_logits", "matched_labels", "conf_pos", "mask_targets")
        )
        logits.requires_grad_()
        positive = torch.nonzero(labels > 0).flatten()
        weights = head.mask_weights(scores)
        classes, inside = labels[positive], target > 0
        targets = MaskTargets(classes, inside, torch.zeros_like(inside), scores)
        loss = head.loss(logits[positive], targets, weights)
        (gradient,) = torch.autograd.grad(loss, logits)
        chosen = gradient[positive, classes]
        elsewhere = gradient.abs().sum() - chosen.abs().sum()
        found = {"positive_index": positive, "kept": weights > 0}
        yield from each(arrays, found, case=f"{tag}_{{}}")
        yield absolute(f"{tag}_loss", loss, arrays[f"{tag}_loss"], LOSS)
        yield absolute(f"{tag}_grad_pos", chosen, arrays[f"{tag}_grad_pos"], 1e-8)
        expected = arrays[f"{tag}_grad_abs_sum_elsewhere"]
        yield absolute(f"{tag}_elsewhere", elsewhere, expected, LOSS)


@check("boxcaseg", "poly_lr", "base_lr max_iters iters lr")
def boxcaseg_poly_lr(arrays: Arrays) -> list[Comparison]:
    """The schedule without warm-up."""
    rate, last = float(arrays["base_lr"]), int(arrays["max_iters"])
    return [absolute("lr", _rates(rate, last, arrays["iters"].tolist()), arrays["lr"], 1e-9)]


def _rates(rate: float, last: int, iterations: Sequence[int]) -> list[float]:
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = last, 0
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = build_poly_schedule(cfg, optimizer)
    found = []
    for schedule.last_epoch in iterations:
        found += schedule.get_lr()
    return found
