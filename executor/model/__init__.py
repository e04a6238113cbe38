"""The user's model: which it is, cut into units, what passes between them, and how one is checkpointed."""
