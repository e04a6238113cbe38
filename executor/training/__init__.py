"""Training with a plan: loss, data, seeds and optimizers, and plain training that it is compared with."""
