"""What to run: scenario files, their schema and loader, catalogues, and the way from a scenario to a workload."""
