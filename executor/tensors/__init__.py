"""Describes tensors and what lies in them: layouts, parts of boundaries, digests, bytes, random numbers."""
