"""The losses of stage 3 against their equations, and what happens at their edges."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from wsis.methods.bana.nal import (
    LOSSES,
    NoiseParams,
    baseline_loss,
    bootstrapping_loss,
    common_label,
    entropy_loss,
    noise_aware_loss,
    pixel_losses,
    unreliable_region,
)

IGNORE = 255


def cosines(*shape: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1).requires_grad_()


def labels(*shape: int, classes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, shape, generator=generator, dtype=torch.uint8)
    label[torch.rand(shape, generator=generator) < 0.1] = IGNORE
    return label


@pytest.fixture
def sample() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    y_crf = labels(2, 6, 7, classes=4, seed=2)
    y_ret = torch.where(torch.rand(2, 6, 7) < 0.4, labels(2, 6, 7, classes=4, seed=3), y_crf)
    return cosines(2, 4, 6, 7), y_crf, y_ret


def plain_noise_aware(logits, y_crf, y_ret, params):
    """The equations pixel by pixel; L_ce and L_wce, 0 without a pixel."""
    agreed, disputed, weights = [], [], []
    for n, h, w in torch.cartesian_prod(*(torch.arange(s) for s in y_crf.shape)).tolist():
        own, other = int(y_crf[n, h, w]), int(y_ret[n, h, w])
        if own == IGNORE:
            continue
        x = logits[n, :, h, w]
        loss = -(params.temperature * x).log_softmax(0)[own]
        if own == other:
            agreed.append(loss)
        else:
            disputed.append(loss)
            sigma = ((1 + x[own]) / (1 + x.max())) ** params.damping
            weights.append(sigma.detach() if params.detach_confidence else sigma)
    nothing = 0 * logits.sum()
    weighted = sum(w * loss for w, loss in zip(weights, disputed, strict=True))
    return (
        sum(agreed) / len(agreed) if agreed else nothing,
        weighted / sum(weights) if weights else nothing,
    )


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


def test_regions_by_hand() -> None:
    y_crf = torch.tensor([0, 1, 1, 255, 255, 2], dtype=torch.uint8)
    y_ret = torch.tensor([0, 1, 2, 255, 2, 255], dtype=torch.uint8)
    label = common_label(y_crf, y_ret)
    assert label.tolist() == [0, 1, 255, 255, 255, 255]
    assert unreliable_region(label, y_crf).tolist() == [False, False, True, False, False, True]


OTHER = {
    "some": lambda y_crf, y_ret: y_ret,
    "nowhere": lambda y_crf, y_ret: y_crf,
    "everywhere": lambda y_crf, y_ret: torch.where(y_crf == IGNORE, IGNORE, (y_crf + 1) % 4),
}
"""Y_ret by where it differs from Y_crf."""


@pytest.mark.parametrize("differ", OTHER)
@pytest.mark.parametrize(
    "params",
    [
        NoiseParams(),
        NoiseParams(temperature=5.0, damping=3.0, weight=0.4),
        NoiseParams(temperature=3.0, damping=2.5, weight=0.6, detach_confidence=True),
        NoiseParams(damping=0.0, weight=1.0),
    ],
    ids=["published", "other", "detached", "a plain mean"],
)
def test_the_loss_and_its_gradient_are_those_of_the_equations(sample, params, differ) -> None:
    logits, y_crf, y_ret = sample
    y_ret = OTHER[differ](y_crf, y_ret).to(torch.uint8)
    agreed, disputed = plain_noise_aware(logits, y_crf, y_ret, params)
    losses = noise_aware_loss(logits, y_crf, y_ret, params)
    torch.testing.assert_close(losses["loss_ce"], agreed)
    torch.testing.assert_close(losses["loss_wce"], params.weight * disputed)
    (ours,) = torch.autograd.grad(total(losses), logits)
    (theirs,) = torch.autograd.grad(agreed + params.weight * disputed, logits)
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_to_learn_from_is_zero_with_a_graph(name) -> None:
    logits, nothing = cosines(1, 3, 4, 4), torch.full((1, 4, 4), IGNORE, dtype=torch.uint8)
    loss = total(LOSSES[name](logits, nothing, nothing, NoiseParams()))
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, logits)[0] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_cosines_of_minus_one_to_all_classes_are_finite(name) -> None:
    logits = torch.full((1, 3, 2, 2), -1.0, requires_grad=True)
    y_crf, y_ret = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    y_ret += 1
    loss = total(LOSSES[name](logits, y_crf, y_ret, NoiseParams()))
    assert torch.autograd.grad(loss, logits)[0].isfinite().all() and loss.isfinite()


@pytest.mark.parametrize("name", ["NAL", "ER", "BS"])
def test_weight_zero_is_the_baseline(sample, name) -> None:
    params = NoiseParams(weight=0.0)
    expected = total(baseline_loss(*sample, params))
    torch.testing.assert_close(total(LOSSES[name](*sample, params)), expected)


def test_the_weighted_mean_is_over_weights_not_pixels() -> None:
    """Confidence of 1e-4 everywhere must not make the term small."""
    logits = torch.tensor([0.9, -0.8]).double()[None, :, None, None].expand(1, 2, 3, 3)
    y_crf, y_ret = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    y_crf += 1
    losses = noise_aware_loss(logits, y_crf, y_ret, NoiseParams(weight=1.0))
    assert losses["loss_wce"].item() == pytest.approx(20 * 1.7, rel=1e-6)


def test_entropy_and_bootstrapping_are_means_over_what_is_unreliable(sample) -> None:
    logits, y_crf, y_ret = sample
    unreliable = unreliable_region(common_label(y_crf, y_ret), y_crf)
    log_p = (20 * logits).log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1)
    found, expected = entropy_loss(*sample, NoiseParams()), 0.1 * entropy[unreliable].mean()
    torch.testing.assert_close(found["loss_entropy"], expected)
    slopes = (
        torch.autograd.grad(loss, logits, retain_graph=True)[0]
        for loss in (found["loss_entropy"], expected)
    )
    torch.testing.assert_close(*slopes)
    mixed = 0.95 * pixel_losses(logits, y_crf, 20.0) + 0.05 * entropy
    found = bootstrapping_loss(*sample, NoiseParams())["loss_bootstrap"]
    torch.testing.assert_close(found, 0.1 * mixed[unreliable].mean())


@pytest.mark.parametrize("hard", [False, True])
def test_bootstrapping_mixes_label_and_prediction(hard) -> None:
    logits = torch.tensor([0.3, 0.1]).double()[None, :, None, None].requires_grad_()
    y_crf, y_ret = torch.tensor([[[1]], [[0]]], dtype=torch.uint8)[:, None]
    params = NoiseParams(temperature=10.0, weight=1.0, bootstrap=0.7, bootstrap_hard=hard)
    loss = bootstrapping_loss(logits, y_crf, y_ret, params)["loss_bootstrap"]
    p = (10 * logits[0, :, 0, 0]).softmax(0).detach()
    target = torch.tensor([0.0, 0.7]) + 0.3 * (torch.tensor([1.0, 0.0]) if hard else p)
    log_p = (10 * logits[0, :, 0, 0]).log_softmax(0)
    assert loss.item() == pytest.approx(-(target * log_p).sum().item())
    (grad,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(grad[0, :, 0, 0], 10 * (p - target))


def test_the_two_plain_losses_see_one_map_each(sample) -> None:
    logits, y_crf, y_ret = sample
    for name, label in (("CE_CRF", y_crf), ("CE_RET", y_ret)):
        expected = functional.cross_entropy(20 * logits, label.long(), ignore_index=IGNORE)
        torch.testing.assert_close(total(LOSSES[name](*sample, NoiseParams())), expected)


def test_large_scores_do_not_overflow() -> None:
    logits = torch.tensor([1.0, -0.5, 0.5])[None, :, None, None].repeat(1, 1, 2, 2).requires_grad_()
    y_crf, y_ret = torch.tensor([1, 0], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 2, 2)
    losses = noise_aware_loss(logits, y_crf, y_ret, NoiseParams(temperature=1000.0))
    assert total(losses).isfinite() and losses["loss_wce"].item() == pytest.approx(150.0)
    assert torch.autograd.grad(total(losses), logits)[0].isfinite().all()
