"""Reading PASCAL VOC 2012 and SBD as they are distributed: lists, XML boxes, PNG and MATLAB masks.

Labels in every map: 0 background, `IGNORE` neither object nor background. Class ids are 1..20,
alphabetical. `voc_coco.py` builds COCO records from what is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask

from wsis.data.labels import check_values, read_label
from wsis.data.mat_files import read_mat
from wsis.data.voc_xml import box_problem, corners_to_bbox, read_xml
from wsis.errors import DataError
from wsis.structures.boxes import clip_boxes, mask_to_box
from wsis.structures.pseudo_labels import IGNORE

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


@dataclass(frozen=True)
class VocObject:
    """One `<object>` of an annotation XML.

    Attributes:
        category_id (int): 1..20.
        bbox (tuple): COCO x, y, width, height in pixels, 0-based continuous coordinates.
        difficult (bool): marked so by the annotators.
    """

    category_id: int
    bbox: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocInstance:
    """One instance of a label map.

    Attributes:
        label (int): its value in the map.
        category_id (int): 1..20.
        box (tuple): tight box XYXY, half-open, in pixels.
    """

    label: int
    category_id: int
    box: tuple[float, float, float, float]


def image_id_of(stem: str) -> int:
    """`2007_000032` -> 2007000032.

    Raises:
        DataError: another form of name.
    """
    digits = stem.replace("_", "")
    if not (digits.isascii() and digits.isdigit()):
        raise DataError(f"image name '{stem}': expected digits and _ only, as in 2007_000032")
    return int(digits)


def read_list(path: Path) -> list[str]:
    """The image names of a list file, one per line.

    Raises:
        DataError: no such file, not text, or empty.
    """
    try:
        names = path.read_text(encoding="ascii").split()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such list file (see datasets/README.md)") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list file") from error
    if not names:
        raise DataError(f"{path}: the list is empty")
    return names


def train_aug_names(
    voc_train: list[str], voc_val: list[str], sbd_train: list[str], sbd_val: list[str]
) -> list[str]:
    """The usual 10,582 training images: VOC's 1,464, and all of SBD's but VOC's 1,449 of val.

    Returns:
        Sorted names.

    Raises:
        DataError: VOC's own two lists overlap.
    """
    both = set(voc_train) & set(voc_val)
    if both:
        raise DataError(f"ImageSets/Segmentation: {min(both)} is in train.txt and in val.txt")
    return sorted((set(voc_train) | set(sbd_train) | set(sbd_val)) - set(voc_val))


def parse_voc_xml(path: Path) -> tuple[int, int, list[VocObject]]:
    """One annotation of VOC itself, see :mod:`wsis.data.voc_xml`.

    Returns:
        Image height, width and the objects in file order.

    Raises:
        DataError: missing or damaged file, unknown class, bad or missing number, empty box.
    """
    annotation = read_xml(path)
    if annotation.problems:
        raise DataError(annotation.problems[0])
    if annotation.size is None:
        raise DataError(f"{path}: size/height: found nothing, expected a number")
    objects = []
    for item in annotation.objects:
        if item.name not in VOC_CLASSES:
            where = f"object {item.position}: unknown class '{item.name}'"
            raise DataError(f"{path}: {where}, expected one of VOC's 20")
        problem = box_problem(path, item, annotation.size)
        if item.turned and not problem:
            problem = f"{path}: object {item.position}: its corners are in the wrong order"
        if problem:
            raise DataError(f"{problem}; unpack the official archive again")
        bbox = corners_to_bbox(item.corners)
        objects.append(VocObject(VOC_CLASSES.index(item.name) + 1, bbox, item.difficult))
    return (*annotation.size, objects)


def check_size(
    path: Path, found: tuple[int, ...], expected: tuple[int, int], source: str = "as its image"
) -> None:
    """Compares two (height, width); `source` says where the expected one comes from.

    Raises:
        DataError: they differ.
    """
    if tuple(found) != expected:
        sizes = f"found {found[1]}x{found[0]} pixels, expected {expected[1]}x{expected[0]}"
        raise DataError(f"{path}: {sizes} (width x height), {source}")


def read_class_png(path: Path, height: int, width: int) -> np.ndarray:
    """A SegmentationClass PNG.

    Returns:
        (H, W) uint8, 0..20 and `IGNORE`.

    Raises:
        DataError: missing, damaged, not 8-bit palette or grey, wrong size, other values.
    """
    return read_label(path, height, width, len(VOC_CLASSES) + 1)


def read_voc_instances(
    object_png: Path, class_png: Path, height: int, width: int
) -> tuple[np.ndarray, list[VocInstance]]:
    """VOC's own instance masks. An instance has the class that most of its pixels have.

    Returns:
        Label map (H, W) uint8 with `IGNORE`, and its instances in label order.

    Raises:
        DataError: as `read_class_png`, or an instance none of whose pixels has a class.
    """
    labels = read_label(object_png, height, width)
    classes = read_class_png(class_png, height, width)
    categories = {}
    for label in _labels_of(labels):
        counts = np.bincount(classes[labels == label], minlength=256)[1 : len(VOC_CLASSES) + 1]
        if not counts.any():
            raise DataError(f"{object_png}: instance {label} has no class in {class_png}")
        categories[label] = int(counts.argmax()) + 1
    return labels, _instances(labels, categories)


def read_sbd_instances(path: Path, height: int, width: int) -> tuple[np.ndarray, list[VocInstance]]:
    """SBD's instance masks: `GTinst.Segmentation`, class of label i at `GTinst.Categories[i - 1]`.

    Returns:
        Label map (H, W) uint8 and its instances in label order.

    Raises:
        DataError: missing or damaged file, wrong size, a label without category.
    """
    fields = _read_mat(path, "GTinst", ("Segmentation", "Categories"))
    labels, categories = fields["Segmentation"].astype(np.uint8), fields["Categories"].ravel()
    check_size(path, labels.shape, (height, width))
    by_label = {}
    for label in _labels_of(labels):
        if label > len(categories) or not 1 <= categories[label - 1] <= len(VOC_CLASSES):
            raise DataError(f"{path}: GTinst.Categories has no class 1..20 for instance {label}")
        by_label[label] = int(categories[label - 1])
    return labels, _instances(labels, by_label)


def read_sbd_classes(path: Path, height: int, width: int) -> np.ndarray:
    """SBD's class map, `GTcls.Segmentation`.

    Returns:
        (H, W) uint8, 0..20.

    Raises:
        DataError: missing or damaged file, wrong size, other values.
    """
    classes = _read_mat(path, "GTcls", ("Segmentation",))["Segmentation"].astype(np.uint8)
    check_size(path, classes.shape, (height, width))
    check_values(classes, len(VOC_CLASSES) + 1, path)
    return classes


def match_instances(
    objects: list[VocObject],
    instances: list[VocInstance],
    size: tuple[int, int],
    min_iou: float,
    same_order: bool,
) -> dict[int, int]:
    """Pairs XML objects with mask instances of the same class, one to one, by IoU of their boxes.

    VOC numbers the instances of a PNG in the order of the XML's objects (`same_order`): such a
    pair is taken first if class and IoU bear it out. What remains is paired greedily, largest IoU
    first. VOC's masks stop about 3 pixels short of the outline, the rest being void, so their
    boxes are grown by that much before comparison.

    Args:
        objects: N objects in XML order.
        instances: M instances.
        size: image height and width.
        min_iou: least IoU of a pair, in (0, 1].
        same_order: the instances are VOC's own.

    Returns:
        Object position (0-based) -> position in `instances`.
    """
    if not objects or not instances:
        return {}
    boxes = np.array([instance.box for instance in instances], dtype=np.float64)
    if same_order:
        boxes = clip_boxes(boxes + np.array([-3.0, -3.0, 3.0, 3.0]), *size)
    boxes[:, 2:] -= boxes[:, :2]
    given = np.array([voc_object.bbox for voc_object in objects], dtype=np.float64)
    overlap = np.asarray(coco_mask.iou(given, boxes, [0] * len(boxes))).reshape(len(given), -1)
    same_class = np.equal.outer(
        [voc_object.category_id for voc_object in objects],
        [instance.category_id for instance in instances],
    )
    overlap = np.where(same_class, overlap, 0.0)
    pairs = [(int(o), int(i)) for o, i in np.argwhere(overlap >= min_iou)]
    pairs.sort(key=lambda pair: -overlap[pair])
    if same_order:
        pairs.sort(key=lambda pair: instances[pair[1]].label != pair[0] + 1)
    matched: dict[int, int] = {}
    for position, instance_position in pairs:
        if position not in matched and instance_position not in matched.values():
            matched[position] = instance_position
    return matched


def _labels_of(labels: np.ndarray) -> list[int]:
    return [int(label) for label in np.unique(labels) if label not in (0, IGNORE)]


def _instances(labels: np.ndarray, categories: dict[int, int]) -> list[VocInstance]:
    instances = []
    for label, category_id in categories.items():
        box = mask_to_box(labels == label)
        assert box is not None
        x0, y0, x1, y1 = box.tolist()
        instances.append(VocInstance(label, category_id, (x0, y0, x1, y1)))
    return instances


def _read_mat(path: Path, name: str, fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Fields of the 1x1 struct `name` in a MATLAB 5 file."""
    expected = f"a MATLAB 5 file with {name}.{' and .'.join(fields)}"
    return read_mat(
        path, [name], lambda found: {key: found[name][key][0, 0] for key in fields}, expected
    )
