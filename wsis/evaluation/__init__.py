"""How good masks are: a teacher's proxy masks and a student's predictions."""

from wsis.evaluation.build import build_evaluator
from wsis.evaluation.instance import InstanceEvaluator
from wsis.evaluation.proxy_evaluator import ProxyEvaluator
from wsis.evaluation.proxy_quality import proxy_quality, share_of_upper_bound
from wsis.evaluation.tables import format_quality

__all__ = [
    "InstanceEvaluator",
    "ProxyEvaluator",
    "build_evaluator",
    "format_quality",
    "proxy_quality",
    "share_of_upper_bound",
]
