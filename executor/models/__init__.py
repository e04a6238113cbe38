"""Models that ship with Loadahead."""
