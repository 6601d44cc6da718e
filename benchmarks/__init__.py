"""Benchmarks: each compares a way of doing something with the plain way, in one run, see ``tools/benchmark.py``."""
