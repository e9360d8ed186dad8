"""A kernel per session: start, execute, bound, inspect, outlive. Knows Jupyter; knows nothing of agents."""
