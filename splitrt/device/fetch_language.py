"""A language bundle for a device: from this machine, or the drafter's half from the server, by digest."""

from __future__ import annotations

from splitrt.config import ClientConfig
from splitrt.device.fetch import Kind, fetched_folder, found_or_fetched
from splitrt.errors import ModelNotFound
from splitrt.language.bundle import (
    MANIFEST,
    SERVER_HALVES,
    LanguageBundle,
    find_language,
    load_language,
    parse_language,
)


async def language_for(config: ClientConfig) -> LanguageBundle:
    """As `found_or_fetched`, of language."""
    return await found_or_fetched(config, DRAFTERS_HALF)


def _find(config: ClientConfig) -> LanguageBundle:
    """The user's own, else one that was fetched before."""
    try:
        return find_language(config.bundle, config.bundles_dir)
    except ModelNotFound:
        return find_language(config.bundle, fetched_folder(config))


DRAFTERS_HALF: Kind[LanguageBundle] = Kind(
    manifest=MANIFEST, server_only=SERVER_HALVES, parse=parse_language, find=_find, load=load_language
)
