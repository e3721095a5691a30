"""One look at a metrics page: its values by name and labels, everything shortened and printable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from splitrt.top.page import NoAnswer

MOST_VALUES = 20_000
MOST_LETTERS = 48  # of a label's value
Labels = tuple[tuple[str, str], ...]  # sorted by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    at_s: float  # of a monotonic clock
    values: Mapping[str, Mapping[Labels, float]]  # name as on the page, e.g. splitrt_frames_total -> labels -> value


def read_sample(text: str, at_s: float) -> Sample:
    """Raises NoAnswer where it is no metrics page."""
    values: dict[str, dict[Labels, float]] = {}
    count = 0
    try:
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                if not one.name.startswith("splitrt_"):
                    continue
                count += 1
                if count > MOST_VALUES:
                    raise NoAnswer(f"a metrics page must have at most {MOST_VALUES} values of splitrt's")
                labels = tuple(sorted((printable(name), printable(value)) for name, value in one.labels.items()))
                values.setdefault(one.name, {})[labels] = float(one.value)
    except NoAnswer:
        raise
    except Exception as error:  # the parser names no error for text that is none
        raise NoAnswer(f"a page in Prometheus' text format is wanted, got one that does not parse: {error!r}") from None
    return Sample(at_s=at_s, values=values)


def printable(text: str) -> str:
    """No control character reaches the terminal."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: MOST_LETTERS + 1])
    return shown if len(shown) <= MOST_LETTERS else shown[: MOST_LETTERS - 1] + "…"
