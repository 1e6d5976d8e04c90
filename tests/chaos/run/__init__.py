"""The chaos run: a whole system counts a seeded workload while its processes are killed; totals stay exact."""
