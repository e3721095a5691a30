"""A class of `transformers` to a network with drawn weights. Nothing is downloaded."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from splitrt.errors import ConfigError
from splitrt.nn.split import Whole

VOCABULARY = 96
FIRST_WORD = 5  # tokens below it may mean padding or the end: what a network masks depends on them
SEED = 7
FAMILY_SIDE = 160  # the least at which fastestdet has its 100 candidates
# Keywords that many configurations share.
TOKENS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
ENCODER_DECODER: dict[str, Any] = {
    f"{side}_{size}": count
    for side in ("encoder", "decoder")
    for size, count in (("layers", 2), ("ffn_dim", 64), ("attention_heads", 4))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A class of transformers, keywords of its configuration, and the shape of its one input."""

    model: str
    shape: tuple[int, ...]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    is_language: bool = False  # reads tokens; else pixels or sound
    part: str = ""  # the submodule that is meant, where no class of its own is exported


def vision(model: str, side: int = 64, /, **sizes: Any) -> Architecture:
    return Architecture(model=model, shape=(1, 3, side, side), sizes=sizes)


def language(model: str, words: int = 16, /, **sizes: Any) -> Architecture:
    return Architecture(model=model, shape=(1, words), sizes={"vocab_size": VOCABULARY} | sizes, is_language=True)


def build(architecture: Architecture) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network in evaluation mode and a sample input. Raises ConfigError where transformers has it not."""
    try:
        import transformers
    except ImportError:
        raise ConfigError("the zoo is made of transformers' networks: pip install 'splitrt[llm]'") from None
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.getLogger("transformers").setLevel(logging.ERROR)
    made = getattr(transformers, architecture.model, None)
    if made is None:
        raise ConfigError(f"transformers {transformers.__version__} has no {architecture.model}")
    sizes = {key: _inner(transformers, one) for key, one in architecture.sizes.items()}
    generator = torch.Generator().manual_seed(SEED)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # of its own internals: nothing that a user can act on
        torch.manual_seed(SEED)
        whole: nn.Module = made(made.config_class(**sizes)).eval()
    module = whole.get_submodule(architecture.part)
    draw_weights(module, generator)
    if architecture.is_language:
        return module, (torch.randint(FIRST_WORD, VOCABULARY, architecture.shape, generator=generator),)
    return module, (torch.randn(architecture.shape, generator=generator),)


def family(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """One of splitrt's own families, undivided, with drawn weights, and a sample input."""
    from splitrt.families import head_module, tail_module

    sizes = {"classes": 10, "resolution": FAMILY_SIDE}
    module = Whole(head_module(name).build(**sizes), tail_module(name).build(**sizes)).eval()
    generator = torch.Generator().manual_seed(SEED)
    draw_weights(module, generator)
    return module, (torch.randn((1, 3, FAMILY_SIDE, FAMILY_SIDE), generator=generator),)


def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Weights under which every branch counts: those of before training are often nought or 1e-6, and what a cut lost
    there nobody would see.
    """
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(math.prod(weight.shape[1:])))
            else:
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=generator), alpha=0.2)


def _inner(transformers: Any, given: Any) -> Any:
    """A configuration inside another is given as the class's name and its keywords."""
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        return getattr(transformers, given[0])(**given[1])
    return given
