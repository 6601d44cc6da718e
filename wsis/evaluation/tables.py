"""Evaluation results as text."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate

from wsis.errors import counted

_COLUMNS = (
    *("count", "scored", "mIoU", "class_mIoU", "mIoU_outside_ignored"),
    *("IoU25", "IoU50", "IoU70", "IoU75", "box_fit", "found", "coverage", "ignored"),
)
_HEADERS = {
    "class_mIoU": "class mean",
    "mIoU_outside_ignored": "outside ignored",
    "box_fit": "box fit",
}


def format_quality(quality: dict[str, Any]) -> str:
    """The result of :func:`wsis.evaluation.proxy_quality.proxy_quality` as one table: all masks, then by class, size,
    status, and score above a threshold; rows and columns that say nothing are left out.
    """
    overall = quality["overall"]
    columns = [c for c in _COLUMNS if c in overall and not (c == "ignored" and not overall[c])]
    if not overall["ignored"] and "mIoU_outside_ignored" in columns:
        columns.remove("mIoU_outside_ignored")
    groups = [("all", overall)]
    for kind in ("class", "size", "status"):
        full = {n: group for n, group in quality[f"per_{kind}"].items() if group["count"]}
        if kind != "status" or len(full) > 1:
            groups += [(f"{kind} {name}", group) for name, group in full.items()]
    groups += [(f"score > {group['above']:.2f}", group) for group in quality["per_score"]]
    rows = [[name, *(group.get(column) for column in columns)] for name, group in groups]
    table = tabulate(
        rows,
        headers=["", *(_HEADERS.get(c, c) for c in columns)],
        floatfmt=".3f",
        tablefmt="simple",
        missingval="-",
    )
    numbers = ", ".join(f"{name} {number}" for name, number in quality["status"].items())
    notes = [f"status: {numbers}"]
    if quality["ground_truth"]:
        notes.append(
            f"ground truth: {quality['ground_truth']} masks, "
            f"{counted(quality['without_true_mask'], 'annotation')} without one"
        )
        background = quality["void_as_background"]
        if abs(background["class_mIoU"] - (overall["class_mIoU"] or 0)) > 1e-9:
            shares = ", ".join(f"{background[f'IoU{k}'] or 0:.3f}" for k in (25, 50, 70, 75))
            notes.append(
                f"void as background, 0 for classes without a mask (BoxCaseg's mIoU*): class mean "
                f"{background['class_mIoU']:.3f}, IoU25/50/70/75 {shares}"
            )
    else:
        notes.append("ground truth: none; how well masks fit their boxes")
    return "\n".join([table, *notes])
