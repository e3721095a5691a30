"""`splitrt generate`: a text from a language bundle, drafted here and verified on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from splitrt.cli.options import (
    CaOption,
    CertOption,
    ConfigOption,
    JsonOption,
    KeyOption,
    ServerOption,
    TokenOption,
    client_config,
)

if TYPE_CHECKING:
    from splitrt.config import ClientConfig
    from splitrt.device.events import Done
    from splitrt.device.language import LanguageClient


def generate(
    prompt: Annotated[str, typer.Argument(help="What the text begins with.")] = "",
    server: ServerOption = None,
    bundle: Annotated[str, typer.Option(help="A language bundle's name or folder.")] = "shakespeare",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of the text.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: the likeliest token always.")] = 0.0,
    top_k: Annotated[int, typer.Option(help="Draw among so many of the likeliest; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest that make up this share.")] = 1.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: tokens that stand already are less likely.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Same prompt, same seed: same text.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this string; may be repeated.")] = None,
    offline: Annotated[
        str, typer.Option(help="Tokens said while the server cannot be asked: verify, keep or hold.")
    ] = "verify",
    mode: Annotated[
        str, typer.Option(help="auto, split, stream (the server alone) or server (it speculates).")
    ] = "auto",
    draft_tokens: Annotated[int | None, typer.Option(help="Tokens of a draft. Default: as long as it pays.")] = None,
    branches: Annotated[int, typer.Option(help="Above 1: drafts are trees.")] = 1,
    drafter: Annotated[
        str, typer.Option(help="model: the bundle's; moa: its one that sees states; lookup: what stood before.")
    ] = "model",
    serve_openai: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Instead of one text: an OpenAI-compatible endpoint on this port of 127.0.0.1."
        ),
    ] = None,
    config: ConfigOption = None,
    tls_ca: CaOption = None,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
    token: TokenOption = None,
    json: JsonOption = None,
) -> None:
    """Stream a text. Dimmed: provisional, said by the drafter while the server does not answer.

    Example: splitrt generate "Once upon a time" --server 127.0.0.1:7070 --mode split
    """
    import asyncio
    from dataclasses import asdict

    from splitrt.output import write_json

    settings = client_config(
        config, server, bundle=bundle, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key, token=token
    )
    if serve_openai is not None:
        asyncio.run(_endpoint(settings, drafter, serve_openai))
        return
    wish = {
        "max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p,
        "repetition_penalty": repetition_penalty, "seed": seed, "stop": tuple(stop or ()), "offline": offline,
        "mode": mode, "draft_tokens": draft_tokens, "branches": branches,
    }  # fmt: skip
    done = asyncio.run(_stream(settings, drafter, prompt, wish, quiet=str(json) == "-"))
    write_json(asdict(done), json)


async def _open(config: ClientConfig, drafter: str) -> LanguageClient:
    from splitrt.errors import ConfigError

    try:
        from splitrt.device.fetch_language import language_for
        from splitrt.device.language import LanguageClient

        return LanguageClient(await language_for(config), config, drafter)
    except ImportError as error:
        raise ConfigError(f"language models need the llm extra: pip install 'splitrt[llm]' ({error.name})") from None


async def _stream(config: ClientConfig, drafter: str, prompt: str, wish: dict[str, object], *, quiet: bool) -> Done:
    from splitrt.cli.typewriter import Typewriter
    from splitrt.device.events import Done

    client = await _open(config, drafter)
    with Typewriter(prompt, quiet=quiet) as typewriter:
        async for event in client.generate(prompt, **wish):  # type: ignore[arg-type]
            typewriter.hear(event)
            if isinstance(event, Done):
                return event
    raise AssertionError("a generation ends with Done")


async def _endpoint(config: ClientConfig, drafter: str, port: int) -> None:
    from splitrt.errors import ConfigError

    client = await _open(config, drafter)
    try:
        from splitrt.device.openai import serve_openai
    except ImportError as error:
        raise ConfigError(f"the endpoint needs the llm extra: pip install 'splitrt[llm]' ({error.name})") from None
    print(f"serving {client.bundle.name} at http://127.0.0.1:{port}/v1", flush=True)
    await serve_openai(client, port)
