"""Measurements (design: "Speed to reach"): real processes, real engines, load from a process of its own."""
