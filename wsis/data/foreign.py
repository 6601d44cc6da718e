"""Files of other forms that are at times given where a COCO JSON file is wanted, known by their marks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

_BOXES = "turn it into boxes.json by datasets/prepare_boxes.py --from {}"
_EXPORT = "export the project as COCO"
_UNPACK = "unpack it and name the JSON file in it"
_INSTANCES = "take the file instances_*.json instead"
_WRITE = "write its boxes as COCO (docs/formats.md says what can be turned into it)"
_CURES = {
    "LabelMe": _BOXES.format("labelme"),
    "VGG Image Annotator (VIA)": _BOXES.format("via"),
    "VIA 3": f"{_EXPORT} from VIA 2",
    "CVAT for images": f"export it as COCO 1.0, or {_BOXES.format('cvat')}",
    "PASCAL VOC": "turn the folder into boxes.json by datasets/prepare_voc_xml.py",
    "Open Images": _BOXES.format("openimages"),
    "YOLO": _BOXES.format("yolo"),
    "Label Studio": f"{_EXPORT} (its form JSON has boxes in percent)",
    "COCO panoptic": f"{_INSTANCES}, or make it by panopticapi's converters/panoptic2detection_coco_format.py",
    "COCO captions": _INSTANCES,
    "YouTube-VIS": "write its frames as images, and a box of each as an annotation",
    "COCO results": "a dataset is an object with images, annotations and categories; results are read by "
    "MODEL.EXTERNAL.FILE (docs/external_masks.md)",
    "marks of the report page": "name it by --marks of tools/apply_marks.py",
    "a manifest of labels or score maps": "name the box file",
    "GeoJSON": "turn its shapes into boxes in pixels of the images, as COCO",
    "Detectron2's dicts": "write it by detectron2.data.datasets.coco.convert_to_coco_json",
    "MMDetection": _WRITE,
    "Cityscapes": _WRITE,
    "BDD100K": f"turn it into COCO by bdd100k.label.to_coco, or {_WRITE}",
    "JSON Lines": "write one JSON document with the lists images, annotations and categories",
    "a table (CSV)": _WRITE,
    "a ZIP archive": _UNPACK,
    "a gzip archive": _UNPACK,
    "a web page": "download the file itself, signed in if need be",
    "a pointer of Git LFS": "fetch the file itself by git lfs pull",
    "an image": "name the JSON file by --json and the folder by --images",
    "an empty file": "write or download the file again",
}
_FIRST_BYTES = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"version https://git-lfs", "a pointer of Git LFS"),
)
_TEXTS = (
    (r"\Z", "an empty file"),
    (r"<!doctype html|<html", "a web page"),
    (r"(?s).*<annotations", "CVAT for images"),
    (r"(?s).*<annotation", "PASCAL VOC"),
    (r"ImageID,", "Open Images"),
    (r"#?filename,.*region_shape_attributes", "VGG Image Annotator (VIA)"),
    (r"(?s)([^{<]*\n)?(names|train|path|nc):", "YOLO"),
    (r"\d+(\.0*)?([ \t]+[-+.\de]+){4,}[ \t]*(\n|\Z)", "YOLO"),
    (r'\{.*"data_row"', "Labelbox"),
    (r"[^{<\n]*(,[^{<\n]*){3,}(\n|\Z)", "a table (CSV)"),
)
"""How the text of a file begins that is no JSON."""
_KEYS = (
    ("LabelMe", {"shapes", "imagePath"}),
    ("VGG Image Annotator (VIA)", {"_via_img_metadata"}),
    ("VIA 3", {"project", "file", "metadata", "view"}),
    ("Datumaro", {"items", "categories"}),
    ("Supervisely", {"objects", "size"}),
    ("Labelbox", {"data_row"}),
    ("Cityscapes", {"imgHeight", "imgWidth", "objects"}),
    ("MMDetection", {"metainfo", "data_list"}),
    ("a manifest of labels or score maps", {"wsis", "classes"}),
    ("FiftyOne", {"samples"}),
    ("FiftyOne", {"classes", "labels"}),
    ("SageMaker Ground Truth", {"source-ref"}),
    ("VoTT", {"assets", "tags"}),
    ("marks of the report page", {"accepted", "rejected", "proxy_sha256"}),
)
"""Keys of a file that is one object."""
_ITEM_KEYS = (
    ("Detectron2's dicts", {"file_name", "image_id", "annotations"}),
    ("MMDetection", {"filename", "ann"}),
    ("BDD100K", {"name", "labels"}),
    ("Labelbox", {"data_row"}),
    ("Label Studio", {"data", "annotations"}),
    ("Label Studio", {"data", "completions"}),
    ("Label Studio", {"image", "label"}),
    ("Label Studio", {"image", "bbox"}),
)
"""Keys of the first item of a file that is a list."""


def recognised(document: Any) -> str:
    """Whose form a parsed JSON file has that is no COCO dataset, and what to do, in one line; "" where it is not known.

    Args:
        document: what the JSON parser made of the file.
    """
    first = document[0] if isinstance(document, list) and document else None
    return _told(_of_object(document) if isinstance(document, dict) else _of_item(first))


def recognised_text(content: bytes) -> str:
    """As :func:`recognised`, of the bytes of a file that is no JSON."""
    head = content[:4096].decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    for start, name in _FIRST_BYTES:
        if content.startswith(start):
            return _told(name)
    for pattern, name in _TEXTS:
        if re.match(pattern, head, re.IGNORECASE):
            return _told(name)
    try:
        first, end = json.JSONDecoder().raw_decode(head)
    except (ValueError, RecursionError):
        return ""
    is_lines = isinstance(first, dict) and head[end:].lstrip().startswith("{")
    return (recognised(first) or _told("JSON Lines")) if is_lines else ""


def _told(name: str) -> str:
    if not name:
        return ""
    kind = name if name.startswith(("a ", "an ")) else f"a file of {name}"
    cure = _CURES.get(name, _EXPORT)
    return f"found {kind}, expected a COCO JSON file of instances; {cure}"


def _of_keys(found: dict[str, Any], marks: Iterable[tuple[str, set[str]]]) -> str:
    return next((name for name, keys in marks if keys <= found.keys()), "")


def _of_object(document: dict[str, Any]) -> str:
    if _of_keys(document, _KEYS):
        return _of_keys(document, _KEYS)
    if document.get("type") == "FeatureCollection":
        return "GeoJSON"
    if "videos" in document and "images" not in document:
        return "YouTube-VIS"
    if {"data", "annotations"} <= document.keys() and "images" not in document:
        return "Label Studio"
    value = next(iter(document.values()), None)
    if isinstance(value, dict) and {"filename", "regions"} <= value.keys():
        return "VGG Image Annotator (VIA)"
    annotations = document.get("annotations")
    entry = next(iter(annotations), None) if isinstance(annotations, Iterable) else None
    if isinstance(entry, dict):
        if "segments_info" in entry:
            return "COCO panoptic"
        if "caption" in entry and "category_id" not in entry:
            return "COCO captions"
    return ""


def _of_item(entry: Any) -> str:
    """Of the first item of a list."""
    if not isinstance(entry, dict):
        return ""
    if "image_id" in entry and ("category_id" in entry or "segmentation" in entry):
        return "COCO results"
    if "image" in entry and isinstance(entry.get("annotations"), list):
        return "CreateML"
    return _of_keys(entry, _ITEM_KEYS)
