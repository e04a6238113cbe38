"""What the figures of sweeps show is what was recorded: data, not pixels."""

from __future__ import annotations

import json

from tests.golden.sweep_figures import RECORD, record


def test_figures_of_sweeps_show_what_was_recorded() -> None:
    assert record() == json.loads(RECORD.read_text(encoding="utf-8"))
