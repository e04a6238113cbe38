"""Writes what other tools open: traces for Perfetto and Chrome, and allocations for PyTorch's memory viewer."""
