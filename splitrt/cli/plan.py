"""`splitrt plan`: where to cut, from measurements, for a link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from splitrt.cli.options import JsonOption, plot_file

if TYPE_CHECKING:
    from splitrt.cli.train import Terminal
    from splitrt.partition.plan import Option


def plan(
    model: Annotated[
        str,
        typer.Argument(help="A bundle, FAMILY:name=value,.., a folder of transformers, or package.module:factory."),
    ],
    link: Annotated[str, typer.Option(help="RATE,RTT[,LOSS] as in 5mbit,40ms or 800kbit,120ms,1%.")],
    device_slowdown: Annotated[
        float, typer.Option(help="How many times longer the device takes than this machine.")
    ] = 1.0,
    device_profile: Annotated[
        Path | None, typer.Option(help="What `splitrt doctor --profile` wrote on the device: in place of a slowdown.")
    ] = None,
    server_load: Annotated[float, typer.Option(help="How many times longer the server takes than this machine.")] = 1.0,
    objective: Annotated[
        Literal["latency", "throughput", "energy"], typer.Option(help="What to be best at.")
    ] = "latency",
    deadline_ms: Annotated[float | None, typer.Option(help="Ways that miss it come last.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A family's published weights, safetensors.")] = None,
    threads: Annotated[int, typer.Option(help="Threads that halves are profiled on.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(callback=plot_file, help="Draw head, link and tail of every way to FILE.")
    ] = None,
    range_plot: Annotated[
        Path | None, typer.Option(callback=plot_file, help="Draw which way wins under which link to FILE.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Profile a network here and rank the ways of cutting it, all on the device and all on the server among them.

    Example: splitrt plan mobilenetv2 --link 5mbit,40ms --device-slowdown 8 --plot plan.png
    """
    from splitrt.errors import ConfigError
    from splitrt.output import print_table, write_json

    try:
        from splitrt.cli.train import Terminal
        from splitrt.partition.plan import Machines, parse_link, ranked, ways
    except ImportError as error:
        raise ConfigError(f"planning needs the torch extra: pip install 'splitrt[torch]' ({error.name})") from None
    asked = parse_link(link)
    if device_profile is not None:
        device_slowdown = _slowdown(device_profile, threads)
    machines = Machines(device_slowdown=device_slowdown, server_load=server_load)
    with Terminal(quiet=str(json) == "-") as watch:
        options = _profile(model, weights, threads, watch)
    found = ways(options, asked, machines)
    order = ranked(found, objective, deadline_ms)
    agrees = any(way.option.agreement is not None for way in order)
    columns = ["way", "head ms", "link ms", "tail ms", "total ms", "±", "1/s", "J", "bytes"]
    rows = [
        [
            f"{way.option.label}: {way.option.how}", way.head_ms, way.link_ms, way.tail_ms, way.latency_ms,
            way.option.head_spread_ms * device_slowdown + way.option.tail_spread_ms * server_load, way.frames_per_s,
            way.energy_j, int(way.option.payload_bytes),
            *(["" if way.option.agreement is None else f"{way.option.agreement:.3f}"] if agrees else []),
        ]
        for way in order
    ]  # fmt: skip
    title = f"{model} over {link}, device x{device_slowdown:.3g}, best {objective} first"
    print_table(title, [*columns, *(["agrees"] if agrees else [])], rows, quiet=str(json) == "-")
    if all(option.head_j is None for option in options):
        typer.echo(
            "J: modelled (joules per FLOP and an LTE radio), nothing on this machine measures energy",
            err=str(json) == "-",
        )
    if plot is not None or range_plot is not None:
        from splitrt.bench.planplot import plot_plan, plot_range

        if plot is not None:
            plot_plan(found, plot, title)
        if range_plot is not None:
            plot_range(
                options, machines, objective, range_plot, f"{model}: the best {objective}, x{device_slowdown:.3g}"
            )
    write_json({"link": asked, "machines": machines, "ways": order}, json)


def _profile(model: str, weights: Path | None, threads: int, watch: Terminal) -> list[Option]:
    from splitrt.bundle import bundle_folders, find_bundle
    from splitrt.errors import ConfigError
    from splitrt.partition.capture import capture
    from splitrt.partition.cuts import candidates, cuts
    from splitrt.partition.model import open_model
    from splitrt.partition.profile import profile
    from splitrt.partition.trained import profile_bundle

    if model in bundle_folders() or (Path(model) / "manifest.toml").is_file():
        if weights is not None:
            raise ConfigError(f"--weights are of a family, {model} has its own")
        bundle = find_bundle(model)
        if bundle.manifest.seam.tensors:
            raise ConfigError(f"{model} is cut already: plan the model that it was captured from")
        return profile_bundle(bundle, watch, threads)
    opened = open_model(model, weights)
    captured = capture(opened.module, opened.inputs, opened.keywords)
    found = candidates(captured, cuts(captured))
    inputs = tuple(one.numpy() for one in captured.inputs)
    return profile(captured, found, inputs, opened.pixels, watch, threads)


def _slowdown(file: Path, threads: int) -> float:
    """The device's time for the heads that both machines have, over this machine's."""
    from splitrt.device.profile import compare

    return compare(file, threads)
