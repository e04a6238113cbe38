"""The plan (schedule IR): vocabulary, columns, JSON form, text form. Knows nothing of how plans are made or run."""
