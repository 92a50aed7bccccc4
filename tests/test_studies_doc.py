"""The examples of docs/studies.md are studies: each loads, and those with the paper's numbers find them."""

import re
from pathlib import Path

import pytest
import yaml

from core.config import parse
from sweeps.study import Study, check_study

PAGE = (Path(__file__).parent.parent / "docs" / "studies.md").read_text()
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.get("paper", {}).get("source", "no paper"))
def test_example_is_a_study(example: dict):
    study = parse(Study, {"name": "example", "title": "t", "summary": "s", **example})
    check_study(study)
    if study.paper:
        assert all(study.metric in numbers for numbers in study.paper_numbers().values())
