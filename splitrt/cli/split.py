"""`splitrt split`: a deployable bundle with no training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def split(
    model: Annotated[str, typer.Argument(help="FAMILY or FAMILY:name=number,.., e.g. resnet:classes=10,depth=20.")],
    weights: Annotated[Path, typer.Option(help="The family's published weights, safetensors.")],
    images: Annotated[Path, typer.Option(help="A folder of photographs: looked at for ranges and tables only.")],
    out: Annotated[Path, typer.Option(help="Folder in which the bundle is made.")],
    cut: Annotated[int | None, typer.Option(help="Where to cut, as the family counts. Default: the family's.")] = None,
    bits: Annotated[str, typer.Option(help="Bits a value, with commas.")] = "4,8",
    labels: Annotated[Path | None, typer.Option(help="Class names, a line each.")] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name. Default: the family's.")] = None,
) -> None:
    """Split a network of a known family as it is: its features are quantised, coded and sent.

    Example: splitrt split resnet:classes=10,depth=20 --cut 2 --weights resnet20.safetensors --images photos/ --out runs
    """
    from splitrt.device.source import photographs, read_photograph
    from splitrt.errors import ConfigError

    try:
        from splitrt.cli.train import Terminal
        from splitrt.train.data import class_names
        from splitrt.train.plain import MOST_IMAGES, parse_model, plain_recipe, split_plain
    except ImportError as error:
        raise ConfigError(f"splitting needs the torch extra: pip install 'splitrt[torch]' ({error.name})") from None
    if not all(part.isascii() and part.isdigit() for part in bits.split(",")):
        raise ConfigError(f"--bits must be numbers from 1 to 8 with commas, got {bits!r}")
    family, arguments = parse_model(model, cut)
    recipe = plain_recipe(name or family, family, arguments, tuple(sorted({int(part) for part in bits.split(",")})))
    frames = [read_photograph(path) for path in photographs(images)[:MOST_IMAGES]]
    with Terminal() as watch:
        print(split_plain(recipe, weights, frames, class_names(labels) if labels else [], out, watch))
