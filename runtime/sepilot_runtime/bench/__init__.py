"""Latency on this machine: benchmarks, soak test, regressions, profiles."""
