"""The command line: `loadahead`. It glues scenarios, planner, engines, executor and reports together."""

__version__ = "0.1.0"
