"""Step times and memory that others published are compared with what is predicted for the same runs.

``python -m tests.published`` prints each figure beside the prediction.
"""
