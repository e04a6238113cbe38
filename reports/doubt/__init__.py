"""Says how far numbers can be trusted: samples, spread, what lies far off, and what was not measured."""
