"""Replays a plan: binds its operations to a model and a backend, gives them out, and meters what they hold."""
