"""`splitrt train`: a recipe to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, e.g. recipes/photos.toml.")],
    out: Annotated[Path, typer.Option(help="Folder in which the bundle is made.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data sets. Default: the one SPLITRT_DATA names.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 2,
) -> None:
    """Train, distil, calibrate and export. An interrupted run goes on after its last whole phase.

    Example: splitrt train recipes/photos.toml --out runs --data data
    """
    from splitrt.config import data_folder
    from splitrt.errors import ConfigError

    try:
        import torch

        from splitrt.train.recipe import read_recipe
        from splitrt.train.train import train as run
    except ImportError as error:
        raise ConfigError(f"training needs the torch extra: pip install 'splitrt[torch]' ({error.name})") from None
    folder = data_folder(data)
    if folder is None:
        raise ConfigError("training needs data: give its folder with --data or SPLITRT_DATA")
    torch.set_num_threads(threads)
    run(read_recipe(recipe), folder, out, lambda line: print(line, flush=True))
