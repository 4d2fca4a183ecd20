"""The README says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from records import schema

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_feature_table_is_the_generated_one():
    table = re.search(r"<!-- features -->\n(.*)<!-- /features -->", README, re.DOTALL).group(1)
    assert table.strip() == schema.markdown().strip()


def test_every_link_leads_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
            if not target.startswith("http"):
                assert (ROOT / target).exists(), f"{name}: {target}"


def test_every_configuration_named_exists():
    for name in re.findall(r"configs/(\w+\.yaml)", README):
        assert (ROOT / "configs" / name).exists(), name
