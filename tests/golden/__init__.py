"""Recorded values against our functions: ``python -m tests.golden DIR``.

``frame`` chooses and runs the check of a file, ``compare`` measures errors, each ``checks_*.py``
module (found by its name) registers checks with ``@check``.
"""
