"""Figures of real hardware and of published models, each with its source."""
