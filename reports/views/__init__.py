"""Says what figures show, as data: typed numbers that a figure draws, a sentence is said of and a test compares.

Each file has one view: a frozen dataclass, and a function from a run to it, or to why there is nothing to show.
"""
