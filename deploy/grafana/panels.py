"""What the dashboards show: a panel is a title, a unit and its queries, by legend."""

from __future__ import annotations

from dataclasses import dataclass

RATE = "suffix: /s"
FRAMES = 'splitrt_frames_total{bundle=~"$bundle"}'
STAGES = 'splitrt_frame_duration_seconds_{}{{bundle=~"$bundle"}}'
DEVICE_FRAMES = 'splitrt_device_frames_total{bundle=~"$bundle", outcome!="skipped"}'
DEVICE_STAGES = 'splitrt_device_frame_duration_seconds_{}{{bundle=~"$bundle"}}'


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    unit: str  # as Grafana calls it
    queries: dict[str, str]  # legend -> PromQL
    kind: str = "timeseries"
    stacked: bool = False
    words: str = ""


def rate(series: str, *by: str) -> str:
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({series}[$__rate_interval]))"


def quantile(share: float, buckets: str, *by: str) -> str:
    return f"histogram_quantile({share}, {rate(buckets, *by, 'le')})"


def quantiles(buckets: str) -> dict[str, str]:
    return {f"p{share * 100:.0f}": quantile(share, buckets) for share in (0.5, 0.95, 0.99)}


def mean(histogram: str, *by: str) -> str:
    """`histogram` has a place for `sum` and `count`."""
    return f"{rate(histogram.format('sum'), *by)} / {rate(histogram.format('count'), *by)}"


def ratio(part: str, whole: str, *by: str) -> str:
    return f"{rate(part, *by)} / {rate(whole, *by)}"


def only(series: str, **labels: str) -> str:
    """The series with labels that must match a pattern."""
    more = ", ".join(f'{label}=~"{value}"' for label, value in labels.items())
    return series[:-1] + f", {more}}}"


FLEET = [
    Panel("Answered and refused", RATE, {
        "answered": rate(only(FRAMES, outcome="ok")),
        "refused": rate(only(FRAMES, outcome="overloaded")),
        "late": rate(only(FRAMES, outcome="expired")),
    }),
    Panel("Ready servers", "short", {"ready": "sum(splitrt_ready)", "up": 'count(up{job="splitrt-server"} == 1)'}),
    Panel("Error budget left, of the last three days", "percentunit", {
        "left": "1 - splitrt:frames_bad:ratio_rate3d / 0.01"
    }, kind="stat", words="Of 1 % of frames that may fail. Below zero it is overdrawn."),
    Panel("Time on the server", "s", quantiles(only(STAGES.format("bucket"), stage="total"))),
    Panel("Capture to result on devices", "s", quantiles(only(DEVICE_STAGES.format("bucket"), stage="total"))),
    Panel("Where the time goes: means on devices", "s", {
        "{{stage}}": mean(DEVICE_STAGES.replace("}}", ', stage!="total"}}'), "stage")
    }, stacked=True),
    Panel("How frames end on servers", RATE, {"{{outcome}}": rate(FRAMES, "outcome")}, stacked=True),
    Panel("Who answers, on devices", RATE, {"{{outcome}}": rate(DEVICE_FRAMES, "outcome")}, stacked=True),
    Panel("Share of fallbacks", "percentunit", {
        "fallback": ratio(only(DEVICE_FRAMES, outcome="fallback"), DEVICE_FRAMES)
    }),
    Panel("Streams", "short", {
        "open": "sum(splitrt_streams_open)",
        "most": "sum(splitrt_streams_limit)",
        "opened a minute": "60 * " + rate("splitrt_streams_opened_total"),
    }),
    Panel("Versions served", "short", {
        "{{bundle}} {{version}}": 'count by (bundle, version) (splitrt_model_info{bundle=~"$bundle"})'
    }),
    Panel("splitrt", "short", {"{{version}} on Python {{python}}": "count by (version, python) (splitrt_build_info)"}),
    Panel("Memory", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job="splitrt-server"}'}),
    Panel("CPU", "percentunit", {
        "{{instance}}": 'rate(process_cpu_seconds_total{job="splitrt-server"}[$__rate_interval])'
    }),
    Panel("Certificates end in", "s", {
        "{{instance}} {{use}}": "splitrt_cert_expiry_timestamp_seconds - time()"
    }, kind="stat"),
]  # fmt: skip

LINK = [
    Panel("Uplink, as devices believe it", "Bps", {
        "median": "quantile(0.5, splitrt_link_bandwidth_bytes_per_second)",
        "slowest tenth": "quantile(0.1, splitrt_link_bandwidth_bytes_per_second)",
    }),
    Panel("Round trip without load", "s", {
        "median": "quantile(0.5, splitrt_link_round_trip_seconds)",
        "slowest tenth": "quantile(0.9, splitrt_link_round_trip_seconds)",
    }),
    Panel("Links up", "short", {"up": "sum(splitrt_link_up)", "devices": "count(splitrt_link_up)"}),
    Panel("Payload of a frame", "bytes", {
        "mean": rate("splitrt_frame_bytes_sum") + " / " + rate("splitrt_frame_bytes_count"),
        "p95": quantile(0.95, "splitrt_frame_bytes_bucket"),
    }),
    Panel("Payload over bit-packed symbols", "percentunit", {
        "{{codec}}": rate('splitrt_frame_bytes_sum{codec!="jpeg"}', "codec") + " / "
        + rate('splitrt_packed_bytes_total{codec!="jpeg"}', "codec")
    }),
    Panel("Bytes at servers", "Bps", {
        "{{direction}} {{codec}}": rate("splitrt_wire_bytes_total", "direction", "codec")
    }, stacked=True),
    Panel("Bytes on devices' links", "Bps", {"{{direction}}": rate("splitrt_device_bytes_total", "direction")}),
    Panel("Widths chosen by devices", RATE, {
        "{{width}}": rate('splitrt_device_width_selected_total{bundle=~"$bundle"}', "width")
    }, stacked=True),
    Panel("Widths answered by servers", RATE, {
        "{{width}}": rate('splitrt_width_selected_total{bundle=~"$bundle"}', "width")
    }, stacked=True),
    Panel("Connections that ended", RATE, {"{{cause}}": rate("splitrt_reconnects_total", "cause")}, stacked=True),
    Panel("Frames whose deadline came first", RATE, {
        "in {{stage}}": rate("splitrt_device_late_frames_total", "stage")
    }),
    Panel("Replies to nobody", RATE, {"stray": rate("splitrt_device_stray_replies_total")}),
    Panel("Uplink and downlink", "s", {
        "{{stage}} p95": quantile(0.95, only(DEVICE_STAGES.format("bucket"), stage="uplink|downlink"), "stage")
    }),
    Panel("Exits: risk and what was certified", "percentunit", {
        "estimated, worst device": "max(splitrt_exit_risk_ratio)",
        "certified": "max(splitrt_exit_risk_bound_ratio)",
        "share of frames that exit": "avg(splitrt_exit_share_ratio)",
    }),
    Panel("Exits audited, alarms", "short", {
        "audited": "sum(splitrt_exits_audited)", "alarms": "sum(splitrt_exit_alarms)"
    }),
]  # fmt: skip

LANGUAGE = [
    Panel("Tokens committed", RATE, {"{{bundle}}": rate('splitrt_tokens_total{bundle=~"$bundle"}', "bundle")}),
    Panel("Calls of the target a token", "short", {
        "servers": ratio('splitrt_target_calls_total{bundle=~"$bundle"}', 'splitrt_tokens_total{bundle=~"$bundle"}'),
        "devices": ratio(
            'splitrt_device_calls_total{bundle=~"$bundle"}',
            'splitrt_device_tokens_total{bundle=~"$bundle", fate="committed"}',
        ),
    }),
    Panel("Drafted tokens accepted", "percentunit", {
        "{{bundle}}": ratio(
            'splitrt_draft_tokens_total{bundle=~"$bundle", fate="accepted"}',
            'splitrt_draft_tokens_total{bundle=~"$bundle", fate="drafted"}', "bundle",
        )
    }),
    Panel("Accepted to depth, of drafts so deep", "percentunit", {
        "{{depth}}": ratio(
            'splitrt_device_accepted_total{bundle=~"$bundle"}', 'splitrt_device_drafted_total{bundle=~"$bundle"}',
            "depth",
        )
    }),
    Panel("Draft and accepted length, means", "short", {
        "drafted": mean('splitrt_draft_length_tokens_{}{{bundle=~"$bundle"}}'),
        "accepted": mean('splitrt_accepted_length_tokens_{}{{bundle=~"$bundle"}}'),
    }),
    Panel("A round on the server", "s", {
        "{{stage}} p95": quantile(0.95, 'splitrt_round_duration_seconds_bucket{bundle=~"$bundle"}', "stage")
    }),
    Panel("How rounds end", RATE, {
        "{{outcome}}": rate('splitrt_rounds_total{bundle=~"$bundle"}', "outcome")
    }, stacked=True),
    Panel("Texts", "short", {
        "streams": "sum(splitrt_text_streams_open)",
        "kept by servers": 'sum(splitrt_language_sessions{bundle=~"$bundle"})',
    }),
    Panel("Texts ended", RATE, {"{{reason}}": rate('splitrt_device_texts_total{bundle=~"$bundle"}', "reason")}),
    Panel("Rounds by who drafts", RATE, {
        "{{mode}}": rate('splitrt_device_rounds_total{bundle=~"$bundle"}', "mode")
    }, stacked=True),
    Panel("Said without the server", RATE, {
        "{{fate}}": rate('splitrt_device_tokens_total{bundle=~"$bundle", fate!="committed"}', "fate")
    }),
    Panel("Texts' links", "short", {
        "{{direction}} B/s": rate('splitrt_device_text_bytes_total{bundle=~"$bundle"}', "direction"),
        "reconnects a minute": "60 * " + rate('splitrt_device_text_reconnects_total{bundle=~"$bundle"}'),
        "texts sent again a minute": "60 * " + rate('splitrt_device_text_replays_total{bundle=~"$bundle"}'),
    }),
]  # fmt: skip

TAILS = [
    Panel("Waiting", "short", {
        "{{instance}} {{bundle}}": 'sum by (instance, bundle) (splitrt_queue_depth{bundle=~"$bundle"})',
        "most": "max(splitrt_queue_limit)",
    }),
    Panel("The oldest has waited", "s", {
        "{{instance}} {{bundle}}": 'max by (instance, bundle) (splitrt_queue_oldest_seconds{bundle=~"$bundle"})'
    }),
    Panel("Under way", "short", {
        "{{instance}} {{bundle}}": 'sum by (instance, bundle) (splitrt_inflight_frames{bundle=~"$bundle"})'
    }),
    Panel("Stages, 95th percentile", "s", {
        "{{stage}}": quantile(0.95, STAGES.format("bucket"), "stage")
    }),
    Panel("Where the time goes: means on servers", "s", {
        "{{stage}}": mean(STAGES.replace("}}", ', stage!="total"}}'), "stage")
    }, stacked=True),
    Panel("Tail, 99th percentile by bundle", "s", {
        "{{bundle}}": 'splitrt:frame_duration_seconds:p99_5m{bundle=~"$bundle", stage="tail"}'
    }),
    Panel("Refused for load", RATE, {"{{reason}}": rate("splitrt_admission_refused_total", "reason")}, stacked=True),
    Panel("Late on the server", RATE, {"{{stage}}": rate("splitrt_deadline_expired_total", "stage")}, stacked=True),
    Panel("Share of frames refused", "percentunit", {"refused": "splitrt:frames_refused:ratio_rate5m"}),
    Panel("Calls refused", RATE, {"{{reason}}": rate("splitrt_streams_refused_total", "reason")}, stacked=True),
    Panel("Burn rate of the error budget", "short", {
        "5 minutes": "splitrt:frames_bad:ratio_rate5m / 0.01",
        "1 hour": "splitrt:frames_bad:ratio_rate1h / 0.01",
        "6 hours": "splitrt:frames_bad:ratio_rate6h / 0.01",
    }),
    Panel("Tails that take frames", "short", {
        "{{bundle}} {{version}}": 'sum by (bundle, version) (splitrt_tails_ready{bundle=~"$bundle"})'
    }),
    Panel("Series of a server", "short", {"{{instance}}": 'scrape_samples_scraped{job="splitrt-server"}'}),
]  # fmt: skip

DASHBOARDS = {"fleet": FLEET, "link": LINK, "language": LANGUAGE, "tails": TAILS}
