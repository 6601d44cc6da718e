from dataclasses import replace

import pytest
import torch

from tests.golden.toy_detector import ToyDetector
from tests.methods.bbam.plain import plain_explain
from wsis.methods.bbam.explainer import ExplainerParams, explain
from wsis.methods.bbam.losses import ObjectiveParams, regulariser
from wsis.methods.bbam.targets import Target, class_deltas

HEIGHT, WIDTH = 64, 96
TRACE = ExplainerParams(ObjectiveParams(1e-3, 1e-3), steps=20)


def detector(dtype=torch.float64):
    return ToyDetector.random(5).to(dtype)


def image(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (60 * torch.randn((3, HEIGHT, WIDTH), generator=generator)).to(dtype)


def make_target(model, scene, size, class_index, number):
    """So many random proposals, and a mask that starts at random values inside (0, 1)."""
    generator = torch.Generator().manual_seed(100 * number + class_index)
    near = torch.rand((number, 2), generator=generator) * torch.tensor([WIDTH, HEIGHT]) / 2
    side = 8 + torch.rand((number, 2), generator=generator) * torch.tensor([WIDTH, HEIGHT]) / 3
    proposals = torch.cat([near, near + side], dim=1).to(scene)
    logits, deltas = model(scene[None], [proposals])
    chosen = class_deltas(deltas, torch.full((number,), class_index))
    mask = 0.2 + 0.6 * torch.rand(size, generator=generator).to(scene)
    return Target(proposals, class_index, logits.softmax(dim=1)[:, class_index], chosen, mask)


def make_targets(model, scene):
    """Four boxes of different resolution, class and number of proposals."""
    kinds = ((7, 9), 1, 5), ((12, 5), 3, 1), ((4, 4), 2, 12), ((1, 1), 1, 2)
    return [make_target(model, scene, *kind) for kind in kinds]


def without_proposals(size=(5, 6)):
    empty = torch.zeros((0, 4), dtype=torch.float64)
    return Target(empty, 1, empty[:, 0], empty, torch.zeros(size, dtype=torch.float64))


def assert_close(first, second, atol):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.fixture
def case():
    """A detector, an image and the targets of four boxes."""
    model, scene = detector(), image()
    return model, scene, make_targets(model, scene)


def first_step(model, scene, target, params=TRACE, **options):
    """The one step of one box."""
    steps = []
    explain(model, scene, [target], replace(params, steps=1), observe=steps.append, **options)
    return steps[0]


def test_a_batch_is_the_plain_loop_box_by_box_in_any_order(case):
    model, scene, targets = case
    together = explain(model, scene, targets, TRACE)
    plain = [plain_explain(model, scene, target, TRACE) for target in targets]
    assert_close(together, [explain(model, scene, [each], TRACE)[0] for each in targets], 1e-6)
    assert_close(together, plain, 1e-6)
    assert_close(together, explain(model, scene, targets[::-1], TRACE)[::-1], 1e-6)
    assert max((m - t.mask).abs().max() for m, t in zip(plain, targets, strict=True)) > 0.1


def test_boxes_of_several_images_in_one_batch():
    model, scenes = detector(), [image(seed) for seed in range(4)]
    targets = [make_targets(model, scene)[i] for i, scene in enumerate(scenes)]
    together = explain(model, torch.stack(scenes), targets, TRACE)
    alone = [explain(model, s, [t], TRACE)[0] for s, t in zip(scenes, targets, strict=True)]
    assert_close(together, alone, 1e-6)


@pytest.mark.parametrize("fill", [None, image(9)])
def test_gradient_is_that_of_finite_differences(fill):
    model, scene = detector(), image()
    target = make_target(model, scene, (3, 4), 2, 6)

    def step(mask):
        return first_step(model, scene, replace(target, mask=mask), fill=fill)

    numeric = torch.zeros(12, dtype=torch.float64)
    for i in range(12):
        offset = 1e-6 * (torch.arange(12) == i).view(3, 4)
        high, low = (step(target.mask + sign * offset).losses for sign in (1, -1))
        numeric[i] = (high - low).item() / 2e-6
    gradient = step(target.mask).gradients[0].flatten()
    torch.testing.assert_close(gradient, numeric, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_have_the_images_type_stay_in_range_and_are_the_same_bits_again(dtype):
    model, scene = detector(dtype), image(dtype=dtype)
    params = ExplainerParams(learning_rate=0.4, steps=8)
    masks, again = (explain(model, scene, make_targets(model, scene), params) for _ in range(2))
    assert all(mask.dtype == dtype and mask.min() >= 0 and mask.max() <= 1 for mask in masks)
    assert_close(masks, again, 0)


def test_boxes_without_proposals_stay_empty_and_disturb_nobody(case):
    model, scene, targets = case
    mixed = [without_proposals(), targets[0], without_proposals((2, 3)), targets[1]]
    masks = explain(model, scene, mixed, TRACE)
    assert masks[0].shape == (5, 6) and masks[2].shape == (2, 3)
    assert not masks[0].any() and not masks[2].any()
    assert_close([masks[1], masks[3]], explain(model, scene, targets[:2], TRACE), 1e-6)
    per_box = torch.stack([image(seed) for seed in range(4)])
    moved = explain(model, per_box, mixed, TRACE, fill=per_box.flip(-1))
    alone = explain(model, image(3), [targets[1]], TRACE, fill=image(3).flip(-1))
    assert_close([moved[3]], alone, 1e-6)
    # without any the detector is not called
    (mask,) = explain(None, image(), [without_proposals()], TRACE)
    assert not mask.any() and explain(None, image(), [], TRACE) == []


def test_an_image_of_the_mean_colour_leaves_only_the_pull_towards_zero():
    model, scene, losses = detector(), torch.zeros(3, HEIGHT, WIDTH, dtype=torch.float64), []
    target = make_target(model, scene, (6, 8), 1, 4)
    target = replace(target, mask=torch.ones_like(target.mask))
    params = ExplainerParams(ObjectiveParams(0.007, 1e-4), learning_rate=0.02, steps=10)
    (mask,) = explain(
        model, scene, [target], params, observe=lambda step: losses.append(float(step.losses))
    )
    # Adam moves by its rate while the gradient is constant
    torch.testing.assert_close(mask, torch.full_like(mask, 0.8), rtol=0, atol=1e-5)
    expected = [0.007 * 48 * (1 - 0.02 * k) for k in range(10)]
    assert losses == pytest.approx(expected, rel=1e-4)


def test_the_detector_is_left_as_it_was(case):
    model, scene, targets = case
    frozen = explain(model, scene, targets, TRACE)
    model.requires_grad_()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        masks = explain(model, scene, targets, TRACE)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any(mask.requires_grad for mask in masks)
    assert_close(masks, frozen, 0)
    given = make_targets(model, scene)
    assert all(a.mask.equal(b.mask) for a, b in zip(targets, given, strict=True))


def test_steps_are_seen_before_the_masks_move(case):
    model, scene, targets = case
    steps, given = [], [targets[0], without_proposals(), *targets[1:]]
    final = explain(model, scene, given, replace(TRACE, steps=4), observe=steps.append)
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert_close(steps[0].masks, [target.mask for target in targets], 0)
    third = explain(model, scene, targets, replace(TRACE, steps=3))
    assert_close(steps[3].masks, third, 1e-12)
    assert final[0].ne(steps[3].masks[0]).any()
    assert steps[0].images.shape == (4, 3, HEIGHT, WIDTH)
    assert steps[0].losses.shape == (4,) and len(steps[0].logits) == 20
    assert not steps[0].logits.requires_grad and not steps[0].images.requires_grad


def test_a_blur_fill_is_seen_where_the_mask_is_zero():
    model, scene, fill = detector(), image(), image(8)
    target = make_target(model, scene, (4, 6), 1, 3)
    dark = replace(target, mask=torch.zeros_like(target.mask))
    torch.testing.assert_close(first_step(model, scene, dark, fill=fill).images[0], fill)


def test_regressions_that_do_not_depend_on_the_class():
    model, scene = detector(), image()
    target = make_target(model, scene, (4, 6), 0, 3)

    def agnostic(images, proposals):
        logits, deltas = model(images, proposals)
        return logits, deltas[:, :4]

    masks = (explain(each, scene, [target], TRACE) for each in (agnostic, model))
    assert_close(*masks, 0)


def test_one_stage_detectors_have_sigmoid_scores():
    """Anchors by number, a score per class without background."""
    model, scene, index = detector(), image(), torch.tensor([0, 3])
    first = make_target(model, scene, (4, 6), 2, 5)

    def one_stage(images, anchors):
        logits, deltas = model(images, [first.proposals[index] for index in anchors])
        return logits, deltas[:, :4]

    logits, deltas = one_stage(scene[None], [index])
    target = Target(index, 2, logits.sigmoid()[:, 2], deltas, first.mask)
    step = first_step(one_stage, scene, target, scores=torch.sigmoid)
    logits, deltas = one_stage(step.images, [index])
    moved = (logits.sigmoid()[:, 2] - target.scores).abs() + (deltas - target.deltas).abs().mean(1)
    expected = moved.mean() / 2 + regulariser(target.mask, TRACE.objective)
    torch.testing.assert_close(step.losses[0], expected)
