"""How good masks are, a teacher's proxy masks and a student's predictions, and a classifier's tags."""

from wsis.evaluation.build import build_evaluator
from wsis.evaluation.instance import InstanceEvaluator
from wsis.evaluation.proxy_evaluator import ProxyEvaluator
from wsis.evaluation.proxy_quality import format_quality, proxy_quality, share_of_upper_bound
from wsis.evaluation.semantic import SemanticEvaluator
from wsis.evaluation.semantic_quality import format_semantic, semantic_quality
from wsis.evaluation.tags import TagEvaluator

__all__ = [
    "InstanceEvaluator",
    "ProxyEvaluator",
    "SemanticEvaluator",
    "TagEvaluator",
    "build_evaluator",
    "format_quality",
    "format_semantic",
    "proxy_quality",
    "semantic_quality",
    "share_of_upper_bound",
]
