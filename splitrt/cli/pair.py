"""`splitrt pair`: a language bundle out of a target, its drafter and their tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pair(
    target: Annotated[Path, typer.Argument(help="Folder of the target: config.json and safetensors.")],
    draft: Annotated[Path, typer.Option(help="Folder of the drafter, of the same vocabulary.")],
    name: Annotated[str, typer.Option(help="The bundle's name.")],
    out: Annotated[Path, typer.Option(help="Folder to make the bundle in.")] = Path("bundles"),
    version: Annotated[str, typer.Option(help="The bundle's version.")] = "1",
    tokenizer: Annotated[Path | None, typer.Option(help="Default: tokenizer.json in the target's folder.")] = None,
    ends: Annotated[
        list[int] | None, typer.Option(help="A token that ends a text; may be repeated. Default: the folder's.")
    ] = None,
) -> None:
    """Make a bundle for `serve` and `generate`: models are folders of transformers (Llama, Qwen2, Qwen3, Mistral).

    Example: splitrt pair models/target --draft models/small --name chat --out bundles
    """
    from splitrt.language.bundle import make_language
    from splitrt.language.folder import end_tokens

    folder = make_language(
        out,
        name=name,
        version=version,
        target=target,
        draft=draft,
        tokenizer=tokenizer or target / "tokenizer.json",
        ends=tuple(ends) if ends else end_tokens(target),
    )
    print(folder)
