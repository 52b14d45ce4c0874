"""Benchmarks: each prints figures and ratios of one run; none is a timed test."""
