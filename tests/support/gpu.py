"""The mark of tests that need an NVIDIA GPU: skipped, and said so, where there is none."""

from __future__ import annotations

import pytest
import torch

NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU; torch finds none here"),
]
