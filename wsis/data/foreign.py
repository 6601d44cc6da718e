"""Files of other forms that are at times given where a COCO JSON file is wanted, known by their marks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_BOXES = "turn it into boxes.json by datasets/prepare_boxes.py --from {}"
_CURES = {
    "LabelMe": _BOXES.format("labelme"),
    "VGG Image Annotator (VIA)": _BOXES.format("via"),
    "CVAT for images": f"export it as COCO 1.0, or {_BOXES.format('cvat')}",
    "PASCAL VOC": "turn the folder into boxes.json by datasets/prepare_voc_xml.py",
    "Open Images": _BOXES.format("openimages"),
    "YOLO": _BOXES.format("yolo"),
    "Label Studio": "export the project as COCO (its form JSON has boxes in percent)",
    "Datumaro": "export it as COCO",
    "COCO panoptic": "take the file instances_*.json instead, or make it by panopticapi's "
    "converters/panoptic2detection_coco_format.py",
    "COCO captions": "take the file instances_*.json instead",
    "COCO results": "a dataset is an object with images, annotations and categories; results are read by "
    "MODEL.EXTERNAL.FILE (docs/external_masks.md)",
    "Supervisely": "export the project as COCO",
    "Labelbox": "export the project as COCO",
    "CreateML": "export it as COCO",
    "GeoJSON": "turn its shapes into boxes in pixels of the images, as COCO",
    "a ZIP archive": "unpack it and name the JSON file in it",
    "a gzip archive": "unpack it and name the JSON file in it",
}


def recognised(document: Any) -> str:
    """Whose form a parsed JSON file has that is no COCO dataset, and what to do, in one line; "" where it is not known.

    Args:
        document: what the JSON parser made of the file.
    """
    first = document[0] if isinstance(document, list) and document else None
    name = _of_object(document) if isinstance(document, dict) else _of_item(first)
    return _told(name)


def recognised_text(content: bytes) -> str:
    """As :func:`recognised`, of the bytes of a file that is no JSON."""
    head = content[:4096].decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    line = head.partition("\n")[0].strip()
    name = ""
    if content[:4] == b"PK\x03\x04":
        name = "a ZIP archive"
    elif content[:2] == b"\x1f\x8b":
        name = "a gzip archive"
    elif "<annotations" in head:
        name = "CVAT for images"
    elif "<annotation" in head:
        name = "PASCAL VOC"
    elif line.startswith("ImageID,"):
        name = "Open Images"
    elif line.startswith("filename,") and "region_shape_attributes" in line:
        name = "VGG Image Annotator (VIA)"
    elif _are_numbers(line.split()) or (head.startswith(("names:", "train:", "path:", "nc:"))):
        name = "YOLO"
    elif head.startswith("{") and '"data_row"' in line:
        name = "Labelbox"
    return _told(name)


def _told(name: str) -> str:
    if not name:
        return ""
    kind = name if name.startswith("a ") else f"a file of {name}"
    return f"found {kind}, expected a COCO JSON file of instances; {_CURES[name]}"


def _are_numbers(words: list[str]) -> bool:
    """Whether a line is one of YOLO's labels: a class and a box or a polygon."""
    return len(words) >= 5 and all(word.replace(".", "", 1).isdigit() for word in words)


def _of_object(document: dict[str, Any]) -> str:
    marks = (
        ("LabelMe", {"shapes", "imagePath"}),
        ("VGG Image Annotator (VIA)", {"_via_img_metadata"}),
        ("Datumaro", {"items", "categories"}),
        ("Supervisely", {"objects", "size"}),
        ("Labelbox", {"data_row"}),
    )
    for name, keys in marks:
        if keys <= document.keys():
            return name
    if document.get("type") == "FeatureCollection":
        return "GeoJSON"
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
    if "data_row" in entry:
        return "Labelbox"
    if ("data" in entry and ("annotations" in entry or "completions" in entry)) or (
        "label" in entry and "image" in entry
    ):
        return "Label Studio"
    if "image" in entry and isinstance(entry.get("annotations"), list):
        return "CreateML"
    return ""
