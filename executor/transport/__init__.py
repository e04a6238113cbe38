"""Moves what ranks send to each other: SENDs and RECVs, and what units of several ranks hand on beside the plan."""
