"""The schedule IR: a plan in columns, and its JSON and text forms."""
