"""The table against peers in docs/results.md: whom, at what, and who wins, from the summaries alone."""

from __future__ import annotations

from collections.abc import Callable

from results_figure import Summary

Row = tuple[str, str, str]  # ours, theirs, who wins
Peer = tuple[str, str, Callable[[dict[str, Summary]], Row]]  # whom, at what


def _bytes_saved(claim: str, codec: str) -> Callable[[dict[str, Summary]], Row]:
    def row(all_of: dict[str, Summary]) -> Row:
        saved = all_of[claim][f"saved_vs_{codec}"]
        if saved is None:
            return "no size at which both agree as much", "", "the peer"
        return f"{1 - saved:.2f} of its bytes", "1", "splitrt" if saved > 0 else "the peer"

    return row


def _less(ours: float, theirs: float, form: str = "{:.3g}") -> Row:
    return form.format(ours), form.format(theirs), "splitrt" if ours < theirs else "the peer"


def _more(ours: float, theirs: float, form: str = "{:.3g}") -> Row:
    return form.format(ours), form.format(theirs), "splitrt" if ours > theirs else "the peer"


PEERS: tuple[Peer, ...] = (
    ("FastAPI, uvicorn and httpx", "a 4 KB frame over loopback, same worker; time, theirs 1",
     lambda s: _less(s["frame"]["ratio_http"], 1.0)),
    ("FastAPI, uvicorn and `http.client`", "the same", lambda s: _less(s["frame"]["ratio_http_client"], 1.0)),
    ("torch, eager", "`photos`' head, CPU ms", lambda s: _less(s["head"]["onnx_ms"], s["head"]["torch_ms"])),
    ("zstd level 3 on packed symbols", "4-bit features; bytes, theirs 1",
     lambda s: _less(s["codec"]["bytes_vs_zstd"], 1.0)),
    ("JPEG to the undivided model", "`photos`, bytes at equal accuracy", _bytes_saved("rate", "jpeg")),
    ("WebP to the undivided model", "`photos`", _bytes_saved("rate", "webp")),
    ("JPEG", "ResNet-20, up to the split's best", _bytes_saved("rate_resnet20", "jpeg")),
    ("WebP", "ResNet-20, up to the split's best", _bytes_saved("rate_resnet20", "webp")),
    ("JPEG", "Tiny Darknet, up to the split's best", _bytes_saved("rate_darknet", "jpeg")),
    ("WebP", "Tiny Darknet, up to the split's best", _bytes_saved("rate_darknet", "webp")),
    ("JPEG", "FastestDet, up to the split's best", _bytes_saved("rate_fastestdet", "jpeg")),
    ("WebP", "FastestDet", _bytes_saved("rate_fastestdet", "webp")),
    ("JPEG or WebP, any size", "best score that can be reached, ResNet-20 (theirs: the undivided model's)",
     lambda s: _more(s["rate_resnet20"]["best_accuracy"], s["rate_resnet20"]["whole_accuracy"])),
    ("JPEG to the server", "the demo's strangers: agreement",
     lambda s: _more(s["demo"]["agreement"], s["demo"]["baselines"]["jpeg"]["agreement"])),
    ("the exits alone, no server", "`photos`' test images: accuracy of the best split point",
     lambda s: _more(s["rate"]["best_accuracy"], s["rate"]["exit_accuracy"])),
    ("an exit threshold chosen by its own images", "share of redrawn sets that break the bound",
     lambda s: _less(s["exits"]["violations"], s["exits"]["violations_naive"])),
    ("an encoder trained for each width", "CIFAR-10, largest mean gap, points (theirs 0)",
     lambda s: _less(max(one["mean_pt"] for one in s["width"]["gaps"].values()), 0.0)),
    ("the best of ten controllers", "25 traces: share of the oracle's gain",
     lambda s: _more(s["control"]["gain_whole"], s["control"]["gain_whole"] - s["control"]["margin_best_baseline"])),
    ("always the dearest point", "the same on `photos`' own ladder", lambda s: _more(
        s["control"]["bundle_gain_whole"],
        s["control"]["bundle_gain_whole"] - s["control"]["bundle_margin_best_baseline"], "{:.4f}")),
    ("FastAPI, uvicorn, one tail thread, late work dropped", "goodput at 300 % of capacity, frames/s (embedded)",
     lambda s: _more(*(s["serve"]["goodput_at_most_load_fps"][name] for name in ("embedded", "fastapi")))),
    ("LitServe, batches of 4, its own timeout", "the same",
     lambda s: _more(*(s["serve"]["goodput_at_most_load_fps"][name] for name in ("embedded", "litserve")))),
    ("a server that speculates or streams by itself", "4G, time a token (a request per token is 1)",
     lambda s: _less(s["speculate"]["ratio_request_per_token_4g"], s["speculate"]["ratio_auto_4g"])),
    ("the same", "clients of one server at a bounded p95 on 4G (theirs 1)",
     lambda s: _more(s["speculate"]["capacity_gain"], 1.0)),
)  # fmt: skip
