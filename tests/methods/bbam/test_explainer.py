from dataclasses import replace

import pytest
import torch

from tests.golden.toy_detector import ToyDetector
from tests.methods.bbam.plain import plain_explain
from wsis.methods.bbam.explainer import ExplainerParams, Step, explain
from wsis.methods.bbam.losses import ObjectiveParams, regulariser
from wsis.methods.bbam.targets import Target, class_deltas

HEIGHT, WIDTH = 64, 96
TRACE = ExplainerParams(ObjectiveParams(1e-3, 1e-3), steps=20)
SIZES = [(7, 9), (12, 5), (4, 4), (1, 1)]


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
    classes = torch.full((number,), class_index)
    scores = logits.softmax(dim=1)[:, class_index]
    mask = 0.2 + 0.6 * torch.rand(size, generator=generator).to(scene)
    return Target(proposals, class_index, scores, class_deltas(deltas, classes), mask)


def make_targets(model, scene):
    """Four boxes of different resolution, class and number of proposals."""
    return [
        make_target(model, scene, size, class_index, number)
        for size, class_index, number in zip(SIZES, (1, 3, 2, 1), (5, 1, 12, 2), strict=True)
    ]


def without_proposals(size=(5, 6), dtype=torch.float64):
    empty = torch.zeros((0, 4), dtype=dtype)
    return Target(empty, 1, empty[:, 0], empty, torch.zeros(size, dtype=dtype))


def assert_close(first, second, atol):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


def test_a_batch_is_the_plain_loop_box_by_box():
    model, scene = detector(), image()
    targets = make_targets(model, scene)
    together = explain(model, scene, targets, TRACE)
    alone = [explain(model, scene, [target], TRACE)[0] for target in targets]
    plain = [plain_explain(model, scene, target, TRACE) for target in targets]
    assert_close(together, alone, 1e-6)
    assert_close(together, plain, 1e-6)
    assert max((m - t.mask).abs().max() for m, t in zip(plain, targets, strict=True)) > 0.1


def test_order_does_not_matter():
    model, scene = detector(), image()
    targets = make_targets(model, scene)
    backwards = explain(model, scene, targets[::-1], TRACE)
    assert_close(explain(model, scene, targets, TRACE), backwards[::-1], 1e-6)


def test_boxes_of_several_images_in_one_batch():
    model, scenes = detector(), [image(seed) for seed in range(4)]
    targets = [make_targets(model, scene)[i] for i, scene in enumerate(scenes)]
    together = explain(model, torch.stack(scenes), targets, TRACE)
    alone = [explain(model, s, [t], TRACE)[0] for s, t in zip(scenes, targets, strict=True)]
    assert_close(together, alone, 1e-6)


@pytest.mark.parametrize("fill_seed", [None, 9])
def test_gradient_is_that_of_finite_differences(fill_seed):
    model, scene = detector(), image()
    target = make_target(model, scene, (3, 4), 2, 6)
    fill = None if fill_seed is None else image(fill_seed)

    def first_step(mask):
        steps: list[Step] = []
        params = replace(TRACE, steps=1)
        given = [replace(target, mask=mask)]
        explain(model, scene, given, params, fill=fill, observe=steps.append)
        return steps[0]

    gradient, numeric = first_step(target.mask).gradients[0], torch.zeros(3, 4)
    for i in range(3):
        for j in range(4):
            offset = torch.zeros_like(target.mask)
            offset[i, j] = 1e-6
            high, low = (first_step(target.mask + sign * offset).losses for sign in (1, -1))
            numeric[i, j] = (high - low).item() / 2e-6
    torch.testing.assert_close(gradient.float(), numeric, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_have_the_images_type_and_stay_in_range(dtype):
    model, scene = detector(dtype), image(dtype=dtype)
    params = ExplainerParams(learning_rate=0.4, steps=8)
    for mask in explain(model, scene, make_targets(model, scene), params):
        assert mask.dtype == dtype and mask.min() >= 0 and mask.max() <= 1


def test_boxes_without_proposals_stay_empty_and_disturb_nobody():
    model, scene = detector(), image()
    targets = make_targets(model, scene)
    mixed = [without_proposals(), targets[0], without_proposals((2, 3)), targets[1]]
    masks = explain(model, scene, mixed, TRACE)
    assert masks[0].shape == (5, 6) and masks[2].shape == (2, 3)
    assert not masks[0].any() and not masks[2].any()
    assert_close([masks[1], masks[3]], explain(model, scene, targets[:2], TRACE), 1e-6)
    per_box = torch.stack([image(seed) for seed in range(4)])
    moved = explain(model, per_box, mixed, TRACE, fill=per_box.flip(-1))
    alone = explain(model, image(3), [targets[1]], TRACE, fill=image(3).flip(-1))
    assert_close([moved[3]], alone, 1e-6)


def test_without_any_proposal_the_detector_is_not_called():
    def forbidden(*_):
        raise AssertionError("called")

    (mask,) = explain(forbidden, image(), [without_proposals()], TRACE)
    assert not mask.any()
    assert explain(forbidden, image(), [], TRACE) == []


def test_an_image_of_the_mean_colour_leaves_only_the_pull_towards_zero():
    model, scene = detector(), torch.zeros(3, HEIGHT, WIDTH, dtype=torch.float64)
    target = make_target(model, scene, (6, 8), 1, 4)
    target = replace(target, mask=torch.ones_like(target.mask))
    losses: list[float] = []
    params = ExplainerParams(ObjectiveParams(0.007, 1e-4), learning_rate=0.02, steps=10)
    (mask,) = explain(
        model, scene, [target], params, observe=lambda step: losses.append(float(step.losses))
    )
    # Adam moves by its rate while the gradient is constant
    torch.testing.assert_close(mask, torch.full_like(mask, 0.8), rtol=0, atol=1e-5)
    expected = [0.007 * 48 * (1 - 0.02 * k) for k in range(10)]
    assert losses == pytest.approx(expected, rel=1e-4)


def test_the_detector_is_left_as_it_was():
    model, scene = detector(), image()
    targets = make_targets(model, scene)
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


def test_same_input_gives_the_same_bits():
    model, scene = detector(torch.float32), image(dtype=torch.float32)
    targets = make_targets(model, scene)
    assert_close(explain(model, scene, targets, TRACE), explain(model, scene, targets, TRACE), 0)


def test_steps_are_seen_before_the_masks_move():
    model, scene = detector(), image()
    targets = make_targets(model, scene)
    steps: list[Step] = []
    given = [targets[0], without_proposals(), *targets[1:]]
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
    steps: list[Step] = []
    dark = replace(target, mask=torch.zeros_like(target.mask))
    explain(model, scene, [dark], replace(TRACE, steps=1), fill=fill, observe=steps.append)
    torch.testing.assert_close(steps[0].images[0], fill)


def test_regressions_that_do_not_depend_on_the_class():
    model, scene = detector(), image()
    target = make_target(model, scene, (4, 6), 0, 3)

    def agnostic(images, proposals):
        logits, deltas = model(images, proposals)
        return logits, deltas[:, :4]

    assert_close(
        explain(agnostic, scene, [target], TRACE), explain(model, scene, [target], TRACE), 0
    )


def test_one_stage_detectors_have_sigmoid_scores():
    """Anchors by number, a score per class without background."""
    model, scene = detector(), image()
    first = make_target(model, scene, (4, 6), 2, 5)

    def one_stage(images, anchors):
        logits, deltas = model(images, [first.proposals[index] for index in anchors])
        return logits, deltas[:, :4]

    index = torch.tensor([0, 3])
    logits, deltas = one_stage(scene[None], [index])
    target = Target(index, 2, logits.sigmoid()[:, 2], deltas, first.mask)
    steps: list[Step] = []
    explain(one_stage, scene, [target], TRACE, scores=torch.sigmoid, observe=steps.append)
    logits, deltas = one_stage(steps[0].images, [index])
    moved = (logits.sigmoid()[:, 2] - target.scores).abs() + (deltas - target.deltas).abs().mean(1)
    expected = moved.mean() / 2 + regulariser(target.mask, TRACE.objective)
    torch.testing.assert_close(steps[0].losses[0], expected)
