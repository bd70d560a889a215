"""Driving in the simulator, judged."""
