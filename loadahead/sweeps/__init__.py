"""The sweep over a grid of scenarios: axes, points, workers and the journal."""
