"""`splitrt train`: a recipe to a bundle."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, e.g. recipes/photos.toml.")],
    out: Annotated[Path, typer.Option(help="Folder in which the bundle is made.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data sets. Default: the one SPLITRT_DATA names.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Add the recipe's exits to this bundle, whose other weights stay as they are.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
) -> None:
    """Train, distil, calibrate and export; or train a gate, on spoken words or before a bundle, and certify it.

    An interrupted run of the former goes on after its last whole epoch, to the same result.

    Example: splitrt train recipes/photos.toml --out runs --data data
    """
    from splitrt.bundle import find_bundle
    from splitrt.config import data_folder
    from splitrt.errors import ConfigError

    try:
        import torch

        from splitrt.train.extend import extend
        from splitrt.train.kinds import make
        from splitrt.train.recipe import read_recipe
    except ImportError as error:
        raise ConfigError(f"training needs the torch extra: pip install 'splitrt[torch]' ({error.name})") from None
    folder = data_folder(data)
    if folder is None:
        raise ConfigError("training needs data: give its folder with --data or SPLITRT_DATA")
    torch.set_num_threads(threads)
    with Terminal() as watch:
        if bundle is None:
            make(recipe, folder, out, watch, seed)
        else:
            change = {} if seed is None else {"seed": seed}
            extend(find_bundle(bundle), read_recipe(recipe).model_copy(update=change), folder, out, watch)


class Terminal(AbstractContextManager["Terminal"]):
    """A line an epoch and, on a terminal, a bar of the phase that runs."""

    def __init__(self, *, quiet: bool = False) -> None:
        """quiet: standard output is somebody else's."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, transient=True, console=Console(stderr=quiet))
        self._bars: dict[str, Any] = {}

    def line(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, soft_wrap=True)

    def step(self, phase: str, done: int, total: int) -> None:
        if phase not in self._bars:
            self._bars[phase] = self._progress.add_task(phase, total=total)
        self._progress.update(self._bars[phase], completed=done)

    def __enter__(self) -> Self:
        if self._progress.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.console.is_terminal:
            self._progress.stop()
