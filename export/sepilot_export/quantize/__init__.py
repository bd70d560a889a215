"""Integers: calibration, ranges, mixed precision, repairs."""
