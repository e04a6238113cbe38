"""The schedule IR holds a plan in columns, and defines its JSON and text forms."""
