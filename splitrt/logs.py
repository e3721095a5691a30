"""What a server says of itself, a line an event: for people, or JSON for a collector.

Names that a line carries beside its words (`request_id`, `stream`, `bundle`) are fields of their own in JSON.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

Form = Literal["text", "json"]
FIELDS = ("request_id", "stream", "principal", "bundle")


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, the fields that it has, and an error's traceback."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {field: str(getattr(record, field)) for field in FIELDS if hasattr(record, field)}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def log_to_stderr(form: Form, level: int = logging.INFO) -> None:
    """For a command: everything that any logger says from `level` up."""
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
