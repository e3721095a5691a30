"""Rules, alerts and dashboards: what they name exists, they are what their makers make, and promtool agrees."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from splitrt.metrics.catalogue import SIDES, described

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS, GRAFANA = ROOT / "deploy/prometheus", ROOT / "deploy/grafana"
sys.path.insert(0, str(GRAFANA))
import dashboards  # noqa: E402
from panels import DASHBOARDS  # noqa: E402

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian: apt-get install prometheus)"
)
NAMES = re.compile(r"\bsplitrt[_:][a-z0-9_:]+")
RULES = [*sorted(PROMETHEUS.glob("rules/*.yml")), *sorted(PROMETHEUS.glob("alerts/*.yml"))]


def recorded() -> set[str]:
    return {name for file in RULES for name in re.findall(r"record: (\S+)", file.read_text())}


def counted() -> set[str]:
    return {series for side in SIDES for one in described(side) for series in one.series}


def alerts() -> set[str]:
    return {name for file in RULES for name in re.findall(r"alert: (\w+)", file.read_text())}


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.parent.name)
def test_rules_name_only_what_is_counted_or_recorded(file: Path) -> None:
    named = {name for line in file.read_text().splitlines() if "#" not in line for name in NAMES.findall(line)}
    assert named
    assert named <= counted() | recorded()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_name_only_what_is_counted_or_recorded(name: str) -> None:
    queries = [query for panel in DASHBOARDS[name] for query in panel.queries.values()]
    named = {found for query in queries for found in NAMES.findall(query)}
    assert named
    assert named <= counted() | recorded()


def test_every_metric_is_shown_somewhere() -> None:
    shown = " ".join(q for panels in DASHBOARDS.values() for panel in panels for q in panel.queries.values())
    unseen = [one.name for side in SIDES for one in described(side) if not any(name in shown for name in one.series)]
    assert not unseen


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_committed_dashboard_is_what_the_script_makes(name: str) -> None:
    assert (GRAFANA / f"dashboards/{name}.json").read_text() == dashboards.text(name)


def test_every_alert_has_a_paragraph_in_the_runbook_and_a_link_to_it() -> None:
    sections = set(re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE))
    linked = {name for file in RULES for name in re.findall(r"runbook_url: runbook.md#(\w+)", file.read_text())}
    assert sections == alerts()
    assert linked == {name.lower() for name in alerts()}


def test_every_alert_is_tested_firing_and_silent() -> None:
    text = "".join(file.read_text() for file in PROMETHEUS.glob("tests/*.yml"))
    for name in alerts():
        assert re.search(rf"alertname: {name}\n +exp_alerts:\n +- exp_labels", text), f"{name} never fires"
        is_silent = re.search(rf"alertname: {name}, exp_alerts: \[\]", text)
        # Where one of two series is expected alone, the other is what it is silent about.
        assert is_silent or name in ("SplitrtQueueOld", "SplitrtCertificateEnds"), f"{name} is never silent"


@needs_promtool
def test_promtool_takes_the_configuration_and_the_rules() -> None:
    for words in (["config", str(PROMETHEUS / "prometheus.yml")], ["rules", *map(str, RULES)]):
        done = subprocess.run(["promtool", "check", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_and_are_silent_as_their_tests_say() -> None:
    files = sorted(PROMETHEUS.glob("tests/*.yml"))
    done = subprocess.run(["promtool", "test", "rules", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
