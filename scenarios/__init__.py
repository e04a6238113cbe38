"""Scenarios say what to run: here are the files, their schema and loader, the catalogues, and the way to a workload."""
