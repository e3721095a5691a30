"""`splitrt split`: a deployable bundle with no training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from splitrt.cli.train import Terminal
    from splitrt.partition.model import Model
    from splitrt.partition.quantised import Sample


def split(
    model: Annotated[
        str, typer.Argument(help="FAMILY:name=number,.., a folder of transformers, or package.module:factory.")
    ],
    out: Annotated[Path, typer.Option(help="Folder in which the bundle is made.")],
    cut: Annotated[
        str | None,
        typer.Option(help="A node, a number or a module as `splitrt plan` lists them; of a family also its own count."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The family's published weights, safetensors.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder of photographs: looked at for ranges and tables only.")
    ] = None,
    bits: Annotated[str, typer.Option(help="Bits a value, with commas; 32: exactly, for captured networks.")] = "4,8",
    labels: Annotated[Path | None, typer.Option(help="Class names, a line each.")] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name. Default: the model's.")] = None,
) -> None:
    """Split a network as it is: what crosses the cut is quantised, coded and sent.

    A family at one of its own cuts gets entropy coding and a batched tail; all else is captured and cut anywhere.

    Example: splitrt split resnet:classes=10,depth=20 --cut 2 --weights resnet20.safetensors --images photos/ --out runs
    """
    from splitrt import families
    from splitrt.device.source import photographs, read_photograph
    from splitrt.errors import ConfigError

    try:
        from splitrt.cli.train import Terminal
        from splitrt.partition.bundle import FEW
        from splitrt.train.data import class_names
        from splitrt.train.plain import MOST_IMAGES, plain_recipe, split_plain
    except ImportError as error:
        raise ConfigError(f"splitting needs the torch extra: pip install 'splitrt[torch]' ({error.name})") from None
    if not all(part.isascii() and part.isdigit() for part in bits.split(",")):
        raise ConfigError(f"--bits must be numbers from 1 to 8, or 32, with commas, got {bits!r}")
    depths = tuple(sorted({int(part) for part in bits.split(",")}))
    if labels is not None and not labels.is_file():
        raise ConfigError(f"--labels must be a file, got {labels}")
    names = class_names(labels) if labels else []
    is_own = model.partition(":")[0] in families.names() and (cut is None or (cut.isascii() and cut.isdigit()))
    found = photographs(images)[: MOST_IMAGES if is_own else FEW] if images else []
    frames = [read_photograph(path) for path in found]
    with Terminal() as watch:
        if is_own:
            if weights is None or images is None:
                raise ConfigError("a family at one of its own cuts needs --weights and --images")
            family, arguments = families.parse(model)
            arguments |= {"cut": int(cut)} if cut is not None else {}
            recipe = plain_recipe(name or family, family, arguments, depths)
            split_plain(recipe, weights, frames, names, out, watch)
        else:
            from splitrt.partition.model import open_model

            _captured(open_model(model, weights), cut, frames, depths, names, name, out, watch)


def _captured(
    model: Model,
    wanted: str | None,
    frames: list[npt.NDArray[np.uint8]],
    bits: tuple[int, ...],
    labels: list[str],
    name: str | None,
    out: Path,
    watch: Terminal,
) -> None:
    from splitrt.errors import ConfigError
    from splitrt.partition.bundle import Order, split_captured
    from splitrt.partition.capture import capture
    from splitrt.partition.cuts import cuts, find_cut

    captured = capture(model.module, model.inputs, model.keywords)
    found = cuts(captured)
    if wanted is None:
        raise ConfigError(f"--cut is missing: 0 to {len(found) - 1}, a node or a module; `splitrt plan` compares them")
    pixels = model.pixels if frames else None
    if frames and pixels is None:
        raise ConfigError("--images are for a network whose one input is a photograph (1, 3, H, W) of float32")
    order = Order(
        name=name or model.name,
        kind="classes" if model.kind == "classes" or labels else "tensor",
        labels=tuple(labels),
        pixels=pixels,
        bits=tuple(sorted({*bits, 32})),
        samples=[_sample(frame_HWC, model) for frame_HWC in frames],
    )
    split_captured(captured, find_cut(found, wanted), order, out, watch)


def _sample(frame_HWC: npt.NDArray[np.uint8], model: Model) -> Sample:
    from splitrt.codec import pixels

    assert model.pixels is not None
    wanted = model.pixels
    fitted = pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit)
    return (pixels.normalise(fitted, wanted.mean, wanted.std)[None],)
