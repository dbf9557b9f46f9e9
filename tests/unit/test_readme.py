"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from tests import transition_diagram
from tests.settings_table import README, in_readme, table

ROOT = README.parent


def test_the_settings_table_has_drifted() -> None:
    assert in_readme() == table(), "run: .venv/bin/python -m tests.settings_table"


def test_the_diagram_of_the_circuit_shows_what_cannot_happen_or_hides_what_can() -> None:
    assert transition_diagram.in_readme() == transition_diagram.diagram(), (
        "run: .venv/bin/python -m tests.transition_diagram"
    )


def test_a_module_is_missing_from_the_architecture_or_gone_from_the_tree() -> None:
    section = README.read_text("utf-8").partition("## Architecture")[2].partition("\n## ")[0]
    named = set(re.findall(r"^    (?:health/|proxy/|  )?\s*([\w/]+\.py)\b", section, re.MULTILINE))
    paths = [path.relative_to(ROOT) for package in ("health", "proxy") for path in (ROOT / package).rglob("*.py")]
    simulator = Path("proxy/simulator")
    wanted = {path.name for path in paths if path.name != "__init__.py" and simulator not in path.parents}
    assert wanted - {Path(name).name for name in named} == set()
    assert {Path(name).name for name in named} - wanted == set()
