"""BAS as a model: its losses, whose maps it gives, how much it computes for them, and that it learns."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.methods.bas.tiny import make_batch, make_inputs, make_model, make_network
from wsis.layers.tag_losses import TAG_LOSSES
from wsis.methods.bas.losses import region_scores, suppression
from wsis.methods.bas.training import training_losses
from wsis.structures import ImageMaps


def classes_of(batch):
    return torch.stack([each["tags"] for each in batch]).argmax(dim=1)


@pytest.mark.parametrize("loss", TAG_LOSSES)
def test_the_losses_are_weighted(loss):
    weights = {"guidance_weight": 0.5, "area_weight": 1.5}
    network = make_network(norm=False)
    model, batch = make_model(network, loss=loss, **weights), make_batch()
    found = model(batch)
    classes = classes_of(batch)
    own = classes[:, None]
    images = torch.stack([model.normalise(each["image"]) for each in batch])
    logits, foreground, erased = network(network.backbone.trunk(images), classes)
    scores, erased = logits.mean((2, 3)), erased.mean((2, 3))
    expected = {
        "loss_cls": TAG_LOSSES[loss](scores, torch.eye(3)[classes]),
        "loss_suppression": suppression(scores.gather(1, own), erased.gather(1, own)).mean(),
        "loss_area": 1.5 * foreground.mean(),
        "loss_guidance": 0.5 * functional.cross_entropy(region_scores(logits, foreground), classes),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert "loss_guidance" not in make_model(network, guidance_weight=0.0)(batch)


def test_of_several_tags_one_is_drawn():
    model = make_model(loss="exclusive")
    batch = make_batch(1)
    batch[0]["tags"] = torch.tensor([1.0, 0.0, 1.0])
    seen = set()
    model.network.register_forward_pre_hook(lambda _, args: seen.add(int(args[1])))
    for _ in range(20):
        model(batch)
    assert seen == {0, 2}


def test_whose_map_it_is():
    inputs = make_inputs(0, 2)
    network = make_network().eval()
    image = make_model(network).normalise(inputs["image"])[None]
    with torch.no_grad():
        features = network.backbone.trunk(image)
        every = network.foreground(features)[0]
        best = network.classifier(features).mean((2, 3))[0].argsort(descending=True)
    assert best[0] == 1 or best[1] == 1, "else nothing is told apart"
    expected = {1: every[[0, 2]], 2: every[best[:2]].mean(0, True).expand(2, -1, -1)}
    expected[0] = every.mean(0, True).expand(2, -1, -1)
    for top_k, maps in expected.items():
        model = make_model(network, top_k=top_k).eval()
        with torch.no_grad():
            torch.testing.assert_close(model.maps(image, [0, 2])[0], maps)
        (result,) = model([inputs])
        shown = result["score_maps"]["bas"]
        assert (shown.height, shown.width, shown.stride) == (32, 32, 0)
        np.testing.assert_allclose(shown.scores, maps, rtol=1e-5)
        assert shown.classes.tolist() == [1, 3]


def test_known_classes_need_no_classifier():
    model, calls = make_model().eval(), []
    model.network.head.register_forward_hook(lambda *_: calls.append(1))
    generator = model.network.generator.register_forward_hook(lambda *_: calls.append(2))
    with torch.no_grad():
        seeds = model.propose([make_inputs(1), make_inputs(0, 2)])
    assert calls == []
    assert [seed.maps["bas"].shape for seed in seeds] == [(1, 4, 4), (2, 4, 4)]
    made = model.refiner()(seeds[1], np.zeros((16, 16, 3), np.uint8))
    assert isinstance(made, ImageMaps) and made.score_maps["bas"].classes.tolist() == [1, 3]
    assert made.score_maps["bas"].scores.max(axis=(1, 2)) == pytest.approx(1, abs=1e-4)
    generator.remove()
    with torch.no_grad():
        make_model(model.network, top_k=2).eval().propose([make_inputs(1)])
    assert calls == [1], "the mirror image is in the same batch"


def test_a_map_is_the_sum_with_its_mirror_image():
    model, inputs = make_model().eval(), make_inputs(1)
    with torch.no_grad():
        (seed,) = model.propose([inputs])
    image = model.normalise(inputs["image"])[None]
    with torch.no_grad():
        one, other = model.maps(image, [1]), model.maps(image.flip(-1), [1]).flip(-1)
    expected = functional.interpolate(one + other, (4, 4), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(seed.maps["bas"], expected[0], rtol=1e-5)


def test_ten_crops():
    model = make_model(ten_crop=True).eval()
    (result,) = model([make_inputs(1)])
    image = model.normalise(make_inputs()["image"])
    corners = [(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]
    crops = torch.stack([image[:, y : y + 24, x : x + 24] for y, x in corners])
    network = model.network
    with torch.no_grad():
        features = network.backbone.trunk(torch.cat([crops, crops.flip(-1)]))
        scores = network.classifier(features).mean((2, 3)).softmax(1).mean(0)
        expected = network.class_maps(features[4:5], [1])[0]
    torch.testing.assert_close(result["tags"], scores)
    np.testing.assert_allclose(result["score_maps"]["bas"].scores, expected, rtol=1e-5)


# a whole method, from scratch


def discs(seed):
    """40 noisy images (56, 56) of one disc in one of two colours, its masks at a quarter of the size, its classes."""
    g = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.rand(40, 3, 56, 56, generator=g)
    classes = torch.arange(40) % 2
    y, x = torch.meshgrid(torch.arange(56), torch.arange(56), indexing="ij")
    radius = 8 + 5 * torch.rand(40, 1, 1, generator=g)
    centres = 14 + 28 * torch.rand(2, 40, 1, 1, generator=g)
    masks = (y - centres[0]) ** 2 + (x - centres[1]) ** 2 < radius**2
    images[torch.arange(40), classes] += 0.7 * masks
    return images, functional.avg_pool2d(masks[:, None].float(), 4)[:, 0] > 0.5, classes


def learned(seed, suppressed):
    """Mean IoU of M > 0.5 with the discs, and the share of the classes that are right."""
    images, masks, classes = discs(seed)
    torch.manual_seed(seed)
    network = make_network(2, norm=False)
    network.generator.bias = torch.nn.Parameter(torch.zeros(2))
    model = make_model(network, guidance_weight=0.5, area_weight=1.0)
    solver = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, nesterov=True)
    for step in range(200):
        rows = torch.arange(20) + 20 * (step % 2)
        features = network.backbone.trunk(images[rows])
        losses, _ = training_losses(network, features, torch.eye(2)[classes[rows]], model.params)
        if not suppressed:
            del losses["loss_suppression"]
        solver.zero_grad()
        sum(losses.values()).backward()
        solver.step()
    with torch.no_grad():
        features = network.backbone.trunk(images)
        maps = network.foreground(features, classes)[:, 0] > 0.5
        right = network.classifier(features).mean((2, 3)).argmax(1) == classes
    union = (maps | masks).sum((1, 2))
    return float(((maps & masks).sum((1, 2)) / union).mean()), float(right.float().mean())


@pytest.mark.slow
def test_it_is_the_suppression_that_finds_objects():
    found = {
        suppressed: [learned(seed, suppressed) for seed in range(3)] for suppressed in (True, False)
    }
    assert max(iou for iou, _ in found[True]) >= 0.3, found
    assert max(iou for iou, _ in found[False]) <= 0.05, found
    assert all(right == 1 for _, right in found[True]), found
