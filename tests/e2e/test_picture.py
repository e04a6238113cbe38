"""The README's picture is what `make picture` makes today, and shows what the README says of it."""

from __future__ import annotations

import importlib.util
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import pandas as pd
import pytest

import loadahead as la

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PICTURE = IMAGES / "horizons.svg"
AGAIN = "make it anew: make picture"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script that makes the picture."""
    spec = importlib.util.spec_from_file_location("make_picture", IMAGES / "make_picture.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    """The numbers that the file in the repository holds."""
    description = ET.parse(PICTURE).find(".//{http://purl.org/dc/elements/1.1/}description")
    assert description is not None and description.text is not None
    return pd.read_csv(io.StringIO(description.text))


@pytest.mark.parametrize("horizon", range(1, 9))
def test_its_numbers_are_those_of_todays_predictions(numbers: pd.DataFrame, horizon: int) -> None:
    (row,) = numbers[numbers.horizon == horizon].to_dict("records")
    metrics = la.simulate("shared-switch", {"offload.activation_loading_horizon": horizon}).metrics
    assert row["step_time_ns"] == metrics.step_time_ns, AGAIN
    assert row["peak_device_bytes"] == metrics.peak_device_bytes, AGAIN


def test_the_file_is_what_the_command_makes(maker: ModuleType, tmp_path: Path) -> None:
    """Byte for byte, where this is the matplotlib that made it; another one may place a letter elsewhere."""
    maker.main(tmp_path / "made.svg")
    made, kept = (path.read_text(encoding="utf-8") for path in (tmp_path / "made.svg", PICTURE))
    (version,) = re.findall(r"Matplotlib v([\w.]+),", kept)
    if version != mpl.__version__:
        pytest.skip(f"matplotlib {version} made the picture, and this is {mpl.__version__}; its numbers are tested")
    assert made == kept, AGAIN
    assert len(kept) < 100_000


def test_it_shows_what_the_readme_says(numbers: pd.DataFrame) -> None:
    times, peaks = numbers.step_time_ns, numbers.peak_device_bytes
    assert times.is_monotonic_decreasing and peaks.is_monotonic_increasing
    # "A horizon of 1 loads too late. Beyond 2 the step hardly gets shorter": six more gain less than the second did.
    assert times[0] - times[1] > times[1] - times.iloc[-1]
    # "each further task ahead costs another boundary"
    assert set(peaks.diff().dropna()) == {64_000_000}
