"""What `splitrt top` shows, a line a metric: name on the page, title, kind, unit. Those that a page lacks are left out.

rate: a counter; times: a histogram; level: a gauge.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Row(NamedTuple):
    metric: str  # as on the page: a counter's with _total, a histogram's without _bucket
    title: str
    kind: Literal["rate", "times", "level"]
    unit: str = ""


ROWS: tuple[Row, ...] = (
    # server
    Row("splitrt_ready", "ready", "level"),
    Row("splitrt_model_info", "bundles", "level"),
    Row("splitrt_frames_total", "frames", "rate"),
    Row("splitrt_width_selected_total", "widths", "rate"),
    Row("splitrt_frame_duration_seconds", "stages", "times", "s"),
    Row("splitrt_frame_bytes", "payloads", "times", "B"),
    Row("splitrt_wire_bytes_total", "bytes", "rate", "B"),
    Row("splitrt_streams_open", "streams", "level"),
    Row("splitrt_streams_limit", "streams, at most", "level"),
    Row("splitrt_queue_depth", "queue", "level"),
    Row("splitrt_queue_oldest_seconds", "oldest waiting", "level", "s"),
    Row("splitrt_queue_limit", "queue, at most", "level"),
    Row("splitrt_inflight_frames", "in flight", "level"),
    Row("splitrt_tails_ready", "tails", "level"),
    Row("splitrt_streams_refused_total", "streams refused", "rate"),
    Row("splitrt_admission_refused_total", "frames refused", "rate"),
    Row("splitrt_deadline_expired_total", "late, by where", "rate"),
    Row("splitrt_language_sessions", "texts kept", "level"),
    Row("splitrt_text_streams_open", "texts open", "level"),
    Row("splitrt_rounds_total", "rounds", "rate"),
    Row("splitrt_round_duration_seconds", "round stages", "times", "s"),
    Row("splitrt_draft_tokens_total", "draft tokens", "rate"),
    Row("splitrt_tokens_total", "tokens", "rate"),
    # device
    Row("splitrt_link_up", "link up", "level"),
    Row("splitrt_link_bandwidth_bytes_per_second", "link estimate", "level", "B/s"),
    Row("splitrt_link_round_trip_seconds", "round trip", "level", "s"),
    Row("splitrt_device_frames_total", "sources", "rate"),
    Row("splitrt_device_width_selected_total", "widths sent", "rate"),
    Row("splitrt_device_frame_duration_seconds", "device stages", "times", "s"),
    Row("splitrt_device_late_frames_total", "late, by where", "rate"),
    Row("splitrt_device_bytes_total", "link bytes", "rate", "B"),
    Row("splitrt_reconnects_total", "reconnects", "rate"),
    Row("splitrt_exit_share_ratio", "exit share", "level"),
    Row("splitrt_exit_risk_ratio", "exit risk", "level"),
    Row("splitrt_exit_risk_bound_ratio", "exit risk, at most", "level"),
    Row("splitrt_exit_alarms", "exit alarms", "level"),
)
