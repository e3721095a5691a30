"""What docs/results.md says of each committed benchmark: which figures, and what they are held against.

A bound here is one that the project states: a promise of the program, a budget that a test holds, or the bar that its
design set before anything was measured. Where none was set there is none, and the figure stands alone.
"""

from __future__ import annotations

from results_figure import Described, Figure

PERCENT = "{:.1%}"
REACHED = Figure(
    key="link_bytes_at_1pt", what="link bytes at one point below the undivided model", form="{:.0f}", sense="at least",
    bound=0, why="to come within a point of it at any size",
)  # fmt: skip


def rate_of(asks: str, bundle: str, beside: str) -> Described:
    """`rate` for one of the networks."""
    return Described(
        asks=asks,
        command=f"splitrt bench rate --bundle {bundle} --data DATA",
        figures=(
            Figure(key="whole_accuracy", what="undivided model: accuracy (average precision of detections)"),
            Figure(key="best_accuracy", what="best split point: the same"),
            Figure(key="best_score", what="best split point: what the comparison is by (`score`)"),
            REACHED,
            Figure(key="exit_accuracy", what="the exits alone, asked for every frame: accuracy"),
            Figure(key="exit_share", what="share of frames of which an exit is sure", form=PERCENT),
            Figure(key="saved_vs_jpeg", what="link bytes saved against JPEG at equal score", form=PERCENT,
                   sense="at least", bound=0, why="not to lose to it over the shared range"),
            Figure(key="saved_vs_webp", what="link bytes saved against WebP at equal score", form=PERCENT,
                   sense="at least", bound=0, why="not to lose to it over the shared range"),
        ),
        beside=beside,
    )  # fmt: skip


CLAIMS: dict[str, Described] = {
    "demo": Described(
        asks="One stream of strangers' photographs over a link with a slow stretch and an outage, four ways.",
        command="splitrt demo",
        figures=(
            Figure(key="lost", what="frames lost, of 300", sense="exactly", bound=0, why="promise"),
            Figure(key="late", what="frames answered late", sense="exactly", bound=0, why="promise"),
            Figure(key="outage_frames_answered", what="answered in the outage, of 30", sense="exactly", bound=30,
                   why="promise"),
            Figure(key="agreement", what="agreement with the undivided model"),
            Figure(key="baselines.jpeg.agreement", what="the same of JPEG to the server"),
            Figure(key="baselines.widest.agreement", what="the same of the widest width always"),
            Figure(key="bytes_per_frame", what="link bytes a frame", form="{:.0f}"),
            Figure(key="baselines.jpeg.bytes_per_frame", what="the same of JPEG", form="{:.0f}"),
            Figure(key="latency_ms_p50", what="latency, median, ms"),
            Figure(key="latency_ms_p95", what="latency, 95th percentile, ms"),
        ),
        beside="The photographs are of none of the kinds that `photos` was trained on. JPEG and the widest width agree "
        "more, at fourteen and at nearly three times the bytes.",
    ),
    "frame": Described(
        asks="What the runtime itself costs a frame, on an idle loopback.",
        command="splitrt bench frame",
        figures=(
            Figure(key="overhead_ms_p50", what="overhead beyond head, tail and a raw TCP echo, median, ms",
                   sense="at most", bound=1.5, why="bar of the design"),
            Figure(key="overhead_ms_p99", what="the same, 99th percentile, ms (a shared machine)"),
            Figure(key="pipeline_efficiency", what="frames a second x slowest stage", sense="at least", bound=0.9,
                   why="bar of the design"),
            Figure(key="ratio_http", what="our link / the same worker behind FastAPI asked with httpx, median",
                   sense="at most", bound=1.0, why="not to be slower"),
            Figure(key="ratio_http_whole_client", what="the same with the client's own work on our side",
                   sense="at most", bound=1.0, why="not to be slower"),
            Figure(key="ratio_http_client", what="our link / the same asked with plain `http.client`",
                   sense="at most", bound=1.0, why="not to be slower"),
            Figure(key="lost", what="frames lost", sense="exactly", bound=0, why="promise"),
            Figure(key="help_s", what="`splitrt --help`, s"),
            Figure(key="rss_growth_mb", what="growth of the client's memory over 10,000 frames, MB"),
        ),
        beside="The gain over httpx is httpx's own: plain `http.client` on a kept connection is as fast as our link.",
    ),
    "head": Described(
        asks="A head in ONNX Runtime against the same in torch, CPU time.",
        command="splitrt bench head",
        figures=(
            Figure(key="onnx_speedup", what="torch / ONNX Runtime"),
            Figure(key="max_abs_diff", what="largest difference of their outputs", form="{:.1e}", sense="at most",
                   bound=0.002, why="the bundle's golden tolerance"),
        ),
    ),
    "codec": Described(
        asks="The entropy coder against zstd and against what its own tables say is possible.",
        command="splitrt bench codec --data DATA",
        figures=(
            Figure(key="bytes_vs_zstd", what="ours / zstd over packed symbols, untrained features", sense="at most",
                   bound=1.0, why="not to be larger"),
            Figure(key="entropy_gap", what="ours / ideal code length, worst point", form="{:.4f}"),
            Figure(key="encode_ms", what="encode, CPU ms for 10,000 symbols"),
            Figure(key="decode_ms", what="decode, the same"),
        ),
    ),
    "rate": rate_of(
        "`photos` on 1,500 test images: accuracy against link bytes.", "photos",
        "Asked for every frame, the exits alone are right as often as the undivided model here: on photographs like "
        "the training's the server adds nothing.",
    ),
    "rate_resnet20": rate_of(
        "ResNet-20 on CIFAR-10, three training seeds, three epochs without labels.", "SEED-0,SEED-1,SEED-2",
        "The split stays six points below the undivided model.",
    ),
    "rate_darknet": rate_of(
        "Tiny Darknet on 400 ImageNet photographs, distilled for minutes; compared by agreement.", "runs/darknet-1",
        "Agrees on half the photographs at most; above 0.45 WebP is as cheap, and beyond 0.49 both win.",
    ),
    "rate_fastestdet": rate_of(
        "FastestDet on 128 COCO photographs, distilled for minutes; compared by agreement.", "runs/fastestdet-1",
        "No use as a detector yet. WebP agrees more at every size that both reach.",
    ),
    "exits": Described(
        asks="Early exits at 5 Mbit/s and 40 ms, and whether their certificate holds on redrawn calibration sets.",
        command="splitrt bench exits --data DATA",
        figures=(
            Figure(key="speedup", what="mean frame time, always sent / with exits, median of ten rounds"),
            Figure(key="speedup_low", what="the same, worst round"),
            Figure(key="accuracy_drop_pt", what="accuracy lost against always sending, points", sense="at most",
                   bound=2.0, why="epsilon of the certificate"),
            Figure(key="accuracy_drop_whole_pt", what="accuracy lost against the undivided model, points",
                   sense="at most", bound=2.0, why="epsilon of the certificate"),
            Figure(key="exit_share", what="share answered on the device", form=PERCENT),
            Figure(key="violations", what="redrawn sets that break the bound, worst of three studies", form=PERCENT,
                   sense="at most", bound=0.1, why="delta of the certificate"),
            Figure(key="violations_naive", what="the same with the naive threshold, best of three", form=PERCENT),
        ),
    ),
    "width": Described(
        asks="One encoder at several widths against one trained for each, CIFAR-10, five seeds.",
        command="splitrt bench width --data DATA",
        figures=(
            Figure(key="specialist_gap_pt", what="upper 95 % bound of the gap to a specialist, worst width, points"),
            Figure(key="compute_ratio_narrowest", what="encoder compute, narrowest / widest"),
            Figure(key="switch_ms_p99", what="a switch of width, 99th percentile, ms"),
            Figure(key="rss_growth_mb", what="growth of memory over 5,000 switches, MB"),
        ),
    ),
    "zoo": Described(
        asks="Architectures of `transformers` with random weights, cut at their cuts, against the undivided module.",
        command="splitrt bench zoo",
        figures=(
            Figure(key="exact", what="exact bit for bit in torch, of 101 tried", form="{:.0f}", sense="at least",
                   bound=101, why="promise"),
            Figure(key="own_exact", what="families of splitrt exact, of 12", form="{:.0f}", sense="at least", bound=12,
                   why="promise"),
            Figure(key="onnx_exact", what="of 99 captured, within 1e-4 through ONNX", form="{:.0f}", sense="at least",
                   bound=99, why="promise"),
            Figure(key="cuts_checked", what="cuts checked", form="{:.0f}"),
            Figure(key="large_seconds", what="a ResNet-50 captured, searched and split, s on one core"),
        ),
        beside="Not exact: BEiT (transformers computes a mask when traced that it skips when run: 2e-7), SuperPoint "
        "(as many outputs as the data has keypoints), Mixtral (a custom operator); FastestDet through ONNX.",
    ),
    "plan": Described(
        asks="Four networks, six links: the planned way against the best of those measured.",
        command="splitrt bench plan",
        figures=(
            Figure(key="regret_mean", what="planned latency over the best, mean", form=PERCENT),
            Figure(key="regret_worst", what="the same, worst", form=PERCENT),
            Figure(key="planned_is_best", what="planned way is the best, of 24", form="{:.0f}"),
            Figure(key="prediction_error_median", what="error of the predicted latency, median", form=PERCENT),
        ),
        beside="The prediction errs on the same side for all ways, which is why the ranking holds all the same.",
    ),
    "control": Described(
        asks="The policy of the link on 25 traces, against an exact offline oracle and ten baselines.",
        command="splitrt bench control --real --data DATA",
        figures=(
            Figure(key="gain_whole", what="whole frames, device covers a miss: share of the oracle's gain",
                   sense="at least", bound=0.78, why="bar of the design"),
            Figure(key="gain_whole_unhedged", what="the same where a miss counts nothing", sense="at least",
                   bound=0.48, why="bar of the design"),
            Figure(key="oracle_share", what="accuracy / the oracle's", sense="at least", bound=0.95,
                   why="bar of the design"),
            Figure(key="genie", what="a genie that knows the present rate and queue"),
            Figure(key="margin_best_baseline", what="ahead of the best baseline", sense="at least", bound=0.0,
                   why="not to lose to it"),
            Figure(key="worst_cell.accuracy_ahead", what="worst cell: accuracy ahead of the best baseline",
                   sense="at least", bound=-0.02, why="bar of the design"),
            Figure(key="gain_degrading", what="frames that degrade: share of the oracle's gain", sense="at least",
                   bound=0.88, why="bar of the design"),
            Figure(key="ece", what="expected calibration error of 'in time'", sense="at most", bound=0.04,
                   why="bar of the design"),
            Figure(key="decision_us_p50", what="CPU of a decision, median, microseconds", form="{:.0f}"),
            Figure(key="step_replies", what="replies to the right width after a step down", sense="at most", bound=3,
                   why="bar of the design"),
            Figure(key="outage_recovery_ms", what="back after an outage, ms", form="{:.0f}", sense="at most", bound=300,
                   why="bar of the design"),
            Figure(key="real_minus_simulated", what="gain on the wire less simulated, worst"),
            Figure(key="bundle_margin_best_baseline", what="on `photos`' own ladder, ahead of the best baseline",
                   form="{:.4f}", sense="at least", bound=0.0, why="not to lose to it"),
        ),
        beside="On `photos`' own ladder nearly every point fits every link, and always sending the dearest is better "
        "by 0.003 than deciding.",
    ),
    "gate": Described(
        asks="Gates that stop frames which hold nothing, at a certified recall.",
        command="splitrt bench gate --data DATA",
        figures=(
            Figure(key="scenes.positives_kept", what="scenes: positives kept", form=PERCENT, sense="at least",
                   bound=0.97, why="certified recall"),
            Figure(key="scenes.negatives_stopped", what="scenes: negatives stopped", form=PERCENT),
            Figure(key="scenes.bytes_saved_all", what="scenes: link bytes saved with compression", form=PERCENT),
            Figure(key="audio.positives_kept", what="spoken digits: positives kept", form=PERCENT, sense="at least",
                   bound=0.9, why="certified recall"),
            Figure(key="audio.negatives_stopped", what="spoken digits: negatives stopped", form=PERCENT),
            Figure(key="audio.bytes_saved_all", what="spoken digits: link bytes saved with compression", form=PERCENT),
            Figure(key="person.positives_kept", what="persons: positives kept", form=PERCENT, sense="at least",
                   bound=0.9, why="certified recall"),
            Figure(key="person.negatives_stopped", what="persons: negatives stopped", form=PERCENT),
        ),
        beside="The person filter keeps its promise by stopping next to nothing: it is no use yet. The audio figures "
        "are optimistic, because its design and its level were chosen by results on the same four speakers.",
    ),
    "serve": Described(
        asks="A server under load with either engine, replicas killed, streams that idle; FastAPI and LitServe beside "
        "it with the same tail, bytes and deadline. Every tail has one thread.",
        command="splitrt bench serve --litserve-python PYTHON",
        figures=(
            Figure(key="ray_added_ms_p50", what="what Ray adds to a 30 KB frame, median of interleaved blocks, ms",
                   sense="at most", bound=1.5, why="bar of the design"),
            Figure(key="goodput_at_300", what="goodput at 300 % of capacity / the best of all loads, worse engine",
                   form=PERCENT, sense="at least", bound=0.8, why="bar of the design"),
            Figure(key="goodput_kept.embedded", what="the same, embedded", form=PERCENT),
            Figure(key="goodput_kept.ray", what="the same, Ray", form=PERCENT),
            Figure(key="refusal_ms_p99", what="a refusal, 99th percentile of the worst load, ms"),
            Figure(key="refusal_ms_p99_median", what="the same of the middle load, ms"),
            Figure(key="refused_without_time", what="refusals that do not say when to try again", sense="exactly",
                   bound=0, why="promise"),
            Figure(key="batch_gain", what="eager torch, 16 clients: batches to 16 / of 1, frames a second",
                   sense="at least", bound=1.5, why="bar of the design"),
            Figure(key="two_replica_gain", what="two replicas / one, 16 clients, frames a second"),
            Figure(key="two_process_gain", what="two servers without a cluster / one: what the machine has to give"),
            Figure(key="kills", what="replicas killed under load", form="{:.0f}"),
            Figure(key="lost_on_kill", what="frames without an answer", sense="exactly", bound=0, why="promise"),
            Figure(key="duplicated_on_kill", what="frames answered twice", sense="exactly", bound=0, why="promise"),
            Figure(key="recovery_s", what="until every stream has outputs again, worst kill of two replicas, s"),
            Figure(key="one_replica_recovery_s", what="the same where the only replica was killed, s"),
            Figure(key="idle_streams_mb", what="memory of 1,000 idle streams at the gateway, MB", sense="at most",
                   bound=200, why="bar of the design"),
            Figure(key="idle_added_ms", what="what they add to an active stream's frame, ms"),
            Figure(key="scale_up_s", what="overload to a second replica that takes frames, s"),
        ),
        beside="Generator, gateway and tails share two cores, so frames a second say nothing and ratios of interleaved "
        "blocks do; a refusal's time has the generator's own delays in it.",
    ),
    "speculate": Described(
        asks="A language model verified on the server, drafted on the device; texts against plain decoding.",
        command="splitrt bench speculate --data DATA",
        figures=(
            Figure(key="mismatches", what="texts that differ over a sound link, of 350", sense="exactly", bound=0,
                   why="promise"),
            Figure(key="outage_mismatches", what="texts that differ over one that fails at random, of 1,050",
                   sense="exactly", bound=0, why="promise"),
            Figure(key="round_bytes", what="bytes of a round", form="{:.0f}", sense="at most", bound=64,
                   why="budget of the wire"),
            Figure(key="draft_bytes_per_node", what="bytes of a drafted token", sense="at most", bound=8,
                   why="budget of the wire"),
            Figure(key="ratio_request_per_token_4g", what="4G: time of `split` / a request per token"),
            Figure(key="ratio_auto_4g", what="4G: time of `auto`, which lets the server go on alone / the same"),
            Figure(key="regret_best_mode", what="time of `auto` / the best way, worst of seven links and two regimes"),
            Figure(key="calls_to_formula", what="calls a token / the best fixed length's, worst"),
            Figure(key="capacity_gain", what="clients of one server on 4G, split / a server that speculates itself"),
            Figure(key="acceptance_stories", what="tokens a round with drafts of four, stories260K"),
            Figure(key="acceptance_moa", what="the same on `shakespeare`, drafter that sees states"),
            Figure(key="acceptance_independent", what="an independent one, as dear, trained alike (`control`)"),
            Figure(key="acceptance_draft", what="the bundle's own, as large, trained less (`draft`)"),
            Figure(key="acceptance_moa_without_states", what="the one that sees states, without them"),
            Figure(key="state_bytes_per_token", what="bytes of state a verified token", form="{:.0f}"),
            Figure(key="nats_alone", what="nats a token of words said alone in an outage, under the target"),
            Figure(key="nats_target", what="the target's own"),
        ),
        beside="A server with room for both models that speculates itself is faster than drafting on the device on "
        "every link. A second round in flight is not built; its rows are what it could gain in virtual time.",
    ),
}  # fmt: skip
