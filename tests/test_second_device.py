"""Every model on a make-believe GPU: each tensor is where it belongs, and the answers are those of the CPU."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from tests.fake_gpu import DEVICE, GpuTensor, fake_gpu
from tests.methods.bana import tiny_classifier, tiny_segmentor
from tests.methods.bas import tiny as tiny_bas
from tests.methods.bbam import tiny_detector
from tests.methods.bbam.tiny_detector import needs_crf
from tests.methods.boxcaseg import tiny as tiny_boxcaseg
from tests.methods.cam import tiny as tiny_cam
from tests.methods.irn import tiny as tiny_irn
from tests.models import EXPLAINED, METHODS, MODELS, STUDENTS, losses_and_gradient, student
from wsis.engine import WsisTrainer
from wsis.engine.prediction import to_annotations
from wsis.methods.bbam.demo import DemoSettings
from wsis.methods.bbam.explainer import ExplainerParams
from wsis.methods.bbam.pictures import write_explanations
from wsis.methods.bbam.targets import StrideParams
from wsis.methods.student_teacher.config import StudentTeacherParams
from wsis.modeling.teacher import Maker
from wsis.structures import ScoreMaps

pytestmark = pytest.mark.slow

CATEGORIES = [{"id": 3, "name": "wide"}, {"id": 7, "name": "tall"}]


@pytest.mark.parametrize("name", MODELS)
def test_a_step(name):
    model, batch = (METHODS | EXPLAINED)[name]()
    expected = losses_and_gradient(copy.deepcopy(model), batch)
    tolerance = {"rel": 1e-4} if name in METHODS else {"rel": 1e-3, "abs": 1e-6}
    with fake_gpu():
        assert losses_and_gradient(model.to(DEVICE), batch) == pytest.approx(expected, **tolerance)
        assert all(isinstance(p, GpuTensor) for p in model.parameters())


@STUDENTS
def test_a_step_of_a_student_and_what_it_finds(tmp_path, head, architecture):
    model, batch = student(tmp_path, head, architecture)
    expected = losses_and_gradient(copy.deepcopy(model), batch)
    image = batch[0]["image"]
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[:50, :60])
    inputs = [{"image": image, "height": 50, "width": 60, "original_image": pixels}]

    def find() -> list[dict[str, Any]]:
        with torch.no_grad():
            instances = model.eval()(inputs)[0]["instances"]
        return to_annotations(instances, CATEGORIES, 0.3)

    on_cpu = find()
    with fake_gpu():
        model.to(DEVICE)
        assert find() == on_cpu and on_cpu
        found = losses_and_gradient(model, batch)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


EXPLANATIONS: list[tuple[str, list[Any]]] = [(kind, []) for kind in tiny_detector.KINDS]
EXPLANATIONS += [
    ("fpn", [f"MODEL.BBAM.{key}", value])
    for key, value in (("FILL", "blur"), ("FILL", "blurrandom"), ("FILL_OUTSIDE_BOX", True))
    + (("CONTEXT", 8), ("INCLUSIVE_BOXES", True))
]


@needs_crf
@pytest.mark.parametrize(("kind", "opts"), EXPLANATIONS, ids=str)
def test_explanations(kind, opts):
    check_seeds(tiny_detector.make_bbam(kind, *opts), tiny_detector.make_inputs())


@pytest.mark.parametrize("kind", ["fpn", "retina"])
def test_pictures_of_explanations(kind, tmp_path):
    view = tiny_detector.make_view(kind)
    view.model.requires_grad_(False)
    image = tiny_detector.make_image()
    network_image = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
    settings = DemoSettings(ExplainerParams(steps=1), StrideParams(4.0, 12.0), 0.6, 8)

    def draw(name: str) -> tuple[int, list[str]]:
        target = tmp_path / name / "x"
        target.parent.mkdir()
        number = write_explanations(image, network_image, view, settings, (), "BGR", target)
        return number, sorted(path.name for path in target.parent.iterdir())

    expected = draw("cpu")
    with fake_gpu():
        view.model.to(DEVICE)
        assert draw("gpu") == expected and expected[0] > 0


def test_features_and_maps():
    model = tiny_classifier.make_classifier()
    check_seeds(model, tiny_classifier.make_inputs([[4, 4, 30, 36], [20, 2, 50, 30]], [0, 1]))
    check_seeds(tiny_boxcaseg.make_model(), tiny_boxcaseg.make_inputs())
    check_seeds(tiny_cam.make_model(), tiny_cam.make_inputs(0, 2))
    check_seeds(tiny_cam.make_model(tags="predicted"), tiny_cam.make_inputs())
    check_seeds(tiny_irn.make_model(), tiny_irn.make_inputs())
    check_seeds(tiny_bas.make_model(), tiny_bas.make_inputs(0, 2))
    for region in ("crop", "shared"):
        boxes = tiny_bas.asked((2, 3, 20, 30), (10, 0, 32, 12))
        check_seeds(tiny_bas.make_box_model(region), boxes)


def test_a_students_masks_of_given_boxes(tmp_path):
    model, batch = student(tmp_path, "ProxyMaskHead", "StudentTeacher")
    model.params = StudentTeacherParams(class_map=(1, 0), scales=(1.0, 1.5), flip=True)
    inputs = tiny_boxcaseg.make_inputs()
    check_seeds(model, inputs | {"image": batch[0]["image"]})


def test_seeds_of_icam_and_what_walks():
    given = tiny_cam.make_inputs(0, 1)
    maps = ScoreMaps([1], given["image"][:1].numpy(), given["height"], given["width"])
    for name in ("icam", "affinity_net"):
        model, _ = METHODS[name]()
        check_seeds(model.eval(), given | {"score_maps": {"icam": maps}})
    boxes = tiny_bas.asked((2, 3, 20, 30), (10, 0, 32, 12), enlarged=2)
    boxes["instances"].gt_classes %= 2
    model, _ = METHODS["icam_box"]()
    check_seeds(model.eval(), boxes)


def propose(model: Maker, inputs: Any) -> list[Any]:
    torch.manual_seed(3)
    with torch.no_grad():
        return model.eval().propose([inputs])


def check_seeds(model: Maker, inputs: Any) -> None:
    """Seeds are the CPU's, in numbers and in place."""
    (expected,) = propose(copy.deepcopy(model), inputs)
    with fake_gpu():
        (seed,) = propose(model.to(DEVICE), inputs)
        model.refiner()
    assert seed.maps.keys() == expected.maps.keys() and seed.maps
    for name, values in expected.maps.items():
        assert isinstance(seed.maps[name], np.ndarray)
        np.testing.assert_allclose(seed.maps[name], values, atol=1e-4)


@needs_crf
def test_label_maps_of_all_protocols():
    cfg = tiny_segmentor.make_cfg(
        MODEL__SEGMENTOR__PROTOCOLS=["single", "single_crf", "multi", "multi_crf"]
    )
    model = WsisTrainer.build_model(cfg).eval()
    inputs = tiny_segmentor.images(1)

    def label() -> dict[str, np.ndarray]:
        labels = model(inputs)[0]["sem_seg_labels"].items()
        return {k: np.asarray(v.cpu() if isinstance(v, torch.Tensor) else v) for k, v in labels}

    expected = label()
    with fake_gpu():
        model.to(DEVICE)
        found = label()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_it_tells_what_a_gpu_would():
    with fake_gpu():
        there = torch.zeros(3, device=DEVICE)
        for mistake in (
            lambda: there + torch.ones(3),
            lambda: torch.cat([there, torch.ones(3)]),
            lambda: torch.ones(3)[there.long()],
            lambda: there.numpy(),
        ):
            with pytest.raises((RuntimeError, TypeError)):
                mistake()
        assert (there + torch.tensor(1.0))[torch.tensor([0, 1])].cpu().tolist() == [1, 1]
        assert torch.tensor([4, 5], device=DEVICE).tolist() == [4, 5]
        assert there.new_tensor([6]).cpu().tolist() == [6.0]
        there[1:] = 2
        assert there.tolist() == [0, 2, 2] and int(there.argmax()) == 1
        there[[2, 0]] = torch.tensor([5.0, 7.0], device=DEVICE)
        assert there[[2, 1, 0]].tolist() == [5, 2, 7]
        with pytest.raises(RuntimeError, match="autocast of 'cpu'"):
            torch.autocast("cpu", enabled=False)
