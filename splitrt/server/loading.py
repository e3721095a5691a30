"""From a bundle's folder to what runs it on this machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from splitrt.bundle import Bundle
from splitrt.config import ServerConfig
from splitrt.errors import BundleError, ConfigError
from splitrt.halves import Half, Side, open_half
from splitrt.language.bundle import find_language
from splitrt.server.captured import CapturedWorker
from splitrt.server.tail import OnnxTail, TorchTail
from splitrt.server.worker import Worker

if TYPE_CHECKING:
    from splitrt.server.verifier import Verifier

log = logging.getLogger(__name__)


def load_worker(bundle: Bundle, config: ServerConfig) -> Worker | CapturedWorker:
    """Raises BundleError where only the head half is here, ConfigError where torch is asked for and cannot run."""
    if not bundle.has_tail:
        raise BundleError(f"bundle {bundle.name} has no tail.onnx: a head half cannot be served")
    try:
        if bundle.manifest.seam.tensors:
            return CapturedWorker(bundle, _half(bundle, "head", config), _half(bundle, "tail", config))
        if config.runner == "torch":
            return Worker(bundle, TorchTail(bundle, config.device, config.threads))
        return Worker(bundle, OnnxTail(bundle, config.threads))
    except (ImportError, AssertionError, RuntimeError) as error:  # what torch says of a device that is not there
        raise ConfigError(f"server.runner {config.runner} must run on {config.device} here: {error}") from error


def load_verifier(name: str, config: ServerConfig) -> Verifier:
    """A language bundle's target. Raises BundleError, ConfigError where torch is missing or has no such device."""
    try:
        from splitrt.server.verifier import Verifier

        bundle = find_language(name, config.bundles_dir)
        made = Verifier(bundle, device=config.device, max_sessions=config.max_sessions, ttl_s=config.session_ttl_s)
        if made.difference:
            log.warning(
                "%s: a token's logits depend on the tokens beside it by %.1e here: texts agree with plain decoding but "
                "for ties closer than that", bundle.name, made.difference,
            )  # fmt: skip
        return made
    except (ImportError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"language bundle {name} must run on {config.device} here: {error}") from error


def _half(bundle: Bundle, side: Side, config: ServerConfig) -> Half:
    return open_half(bundle, side, config.threads, config.runner, config.device)
