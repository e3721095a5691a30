"""Any other causal model of `transformers` out of a folder, if its cache can be cropped.

    config.json  model.safetensors      no code from the folder is run, no weight is left to chance

Keys and values of each layer lie in our own cache (`crop` of the library's changes its meaning between versions) and
are handed over for each reading. When a folder is loaded the model is tried: tokens read, cropped and read again must
give the logits of a fresh reading, else it is refused. Windows forget what cropping would need back only in longer
texts than one tries: they are refused by their configuration.

Shape letters: T tokens read, P tokens before, K key/value heads, E head dimension, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splitrt.errors import BundleError, ConfigError, SplitError
from splitrt.language.cache import Cache
from splitrt.language.rows import Reading, Row, rows_of

CLOSE = 1e-4  # logits of one text read in two ways
MOST_CONTEXT = 1 << 20
TRIED = 12  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    vocabulary: int
    context: int
    layers: int
    kv_heads: int
    head_dim: int


class Adapter:
    """has_trees: the model reads a tree in one pass; else a tree is read node by node."""

    def __init__(self, model: Any, device: str = "cpu") -> None:
        """Raises ConfigError where its cache cannot be cropped."""
        self.device = torch.device(device)
        self._model = model.to(self.device, torch.float32).eval().requires_grad_(False)
        names = inspect.signature(model.forward).parameters
        self._held_as = "cache" if "cache" in names else "past_key_values"  # renamed in transformers 5
        self.config = self._measured()
        self.has_trees = False
        if (off := self._crop_difference()) > CLOSE:
            raise ConfigError(
                f"a cache of {model.config.model_type} must give the same logits after it was cropped, they differ by "
                f"{off:.1e} and may by {CLOSE:g}"
            )
        self.has_trees = self._reads_trees()

    def cache(self) -> Cache:
        return Cache(self.config.layers, self.config.kv_heads, self.config.head_dim, self.device)

    def read(self, ids: Sequence[int], cache: Cache, parents: Sequence[int] | None = None, skip: int = 0) -> Tensor:
        return self.read_many([Reading(ids, cache, parents, skip)])[0]

    @torch.no_grad()
    def read_many(self, readings: Sequence[Reading]) -> list[Tensor]:
        """One after the other: rows of two texts do not share a pass here."""
        many = [rows_of(reading, self.config.vocabulary, self.config.context) for reading in readings]
        return [self._read(reading.cache, rows) for reading, rows in zip(readings, many, strict=True)]

    def _read(self, cache: Cache, rows: Sequence[Row]) -> Tensor:
        nothing_TV = torch.empty(0, self.config.vocabulary, device=self.device)
        if not rows:
            return nothing_TV
        start, is_chain = rows[0].start, all(len(row.path) == place + 1 for place, row in enumerate(rows))
        if is_chain or self.has_trees:
            logits_TV = self._pass(cache, range(start), rows, is_chain=is_chain)
        else:
            each = [self._pass(cache, _slots(row)[:-1], [row], is_chain=True) for row in rows]
            logits_TV = torch.cat(each)
        wanted = [place for place, row in enumerate(rows) if row.is_wanted]
        return logits_TV[wanted] if wanted else nothing_TV

    def _pass(self, cache: Cache, before: Sequence[int], rows: Sequence[Row], *, is_chain: bool) -> Tensor:
        """Rows behind the tokens that lie in the slots `before`; their keys and values go where rows say."""
        held = _library_cache(cache, before)
        ids_1T = torch.tensor([[row.token for row in rows]], device=self.device)
        positions_1T = torch.tensor([[row.position for row in rows]], device=self.device)
        more = {} if is_chain else {"attention_mask": _tree_mask(rows).to(self.device), "position_ids": positions_1T}
        logits_TV: Tensor = self._model(ids_1T, use_cache=True, **{self._held_as: held}, **more).logits[0].float()
        if cache.length < rows[-1].slot + 1:
            cache.append(rows[-1].slot + 1 - cache.length)
        slots = slice(rows[0].slot, rows[-1].slot + 1)
        for layer, (keys_1KPE, values_1KPE) in enumerate(_layers(held)):
            cache.keys[layer][slots] = keys_1KPE[0, :, -len(rows) :].transpose(0, 1)
            cache.values[layer][slots] = values_1KPE[0, :, -len(rows) :].transpose(0, 1)
        return logits_TV

    @torch.no_grad()
    def _measured(self) -> AdapterConfig:
        """Sizes as the model's own cache shows them. Raises ConfigError where it holds no keys and values."""
        config, kind = self._model.config.get_text_config(), self._model.config.model_type
        held = _library_cache(None, ())
        try:
            self._model(torch.tensor([[0, 1]], device=self.device), use_cache=True, **{self._held_as: held})
            layers = _layers(held)
            shapes = {tuple(one.shape) for layer in layers for one in layer}
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise ConfigError(
                f"a {kind} must keep keys and values of every token: {type(error).__name__} {str(error)[:100]}"
            ) from error
        context = getattr(config, "max_position_embeddings", None)
        if len(layers) != config.num_hidden_layers or len(shapes) != 1 or next(iter(shapes))[2:3] != (2,):
            raise ConfigError(
                f"a {kind} must keep keys and values of one shape in all its layers, got {sorted(shapes)}"
            )
        if not isinstance(context, int) or not 2 <= context <= MOST_CONTEXT:
            raise ConfigError(f"max_position_embeddings of a {kind} must be from 2 to {MOST_CONTEXT}, got {context}")
        _, kv_heads, _, head_dim = next(iter(shapes))
        return AdapterConfig(
            vocabulary=config.vocab_size, context=context, layers=len(layers), kv_heads=kv_heads, head_dim=head_dim
        )

    @torch.no_grad()
    def _crop_difference(self) -> float:
        """Read, crop by two, read other tokens: against a fresh reading without any cache."""
        ids = _tried(self.config.vocabulary, min(TRIED, self.config.context))
        first, cache = len(ids) // 2, self.cache()
        self.read(ids[:first], cache)
        self.read([(one + 1) % self.config.vocabulary for one in ids[first : first + 5]], cache)
        cache.crop(first + 1)
        cache.crop(first)
        read_TV = self.read(ids[first:], cache)
        fresh_TV = self._model(torch.tensor([ids], device=self.device), use_cache=False).logits[0, first:].float()
        return float((read_TV - fresh_TV).abs().max())

    def _reads_trees(self) -> bool:
        """Two branches in one pass against each alone."""
        ids = _tried(self.config.vocabulary, min(TRIED, self.config.context))
        trunk, branch, other = ids[:-3], ids[-3:], [(one + 1) % self.config.vocabulary for one in ids[-3:]]
        alone = []
        for one in (branch, other):
            cache = self.cache()
            self.read(trunk, cache)
            alone.append(self.read(one, cache))
        cache = self.cache()
        self.read(trunk, cache)
        both = [token for pair in zip(branch, other, strict=True) for token in pair]
        self.has_trees = True
        try:
            tree_TV = self.read(both, cache, [-1, -1, 0, 1, 2, 3])
        except (TypeError, ValueError, RuntimeError):
            return False
        finally:
            self.has_trees = False
        return max(float((tree_TV[side::2] - alone[side]).abs().max()) for side in (0, 1)) <= CLOSE


def load_adapter(folder: Path, config: Mapping[str, Any], device: str = "cpu") -> Adapter:
    """Raises ConfigError where it needs code of the folder's, has windows or is no causal model, BundleError where
    weights are missing.
    """
    kind = str(config.get("model_type"))[:64]
    if "auto_map" in config:
        raise ConfigError(f"model_type {kind!r} must not need code of its folder (auto_map)")
    others = {str(one) for one in _listed(config.get("layer_types"))} - {"full_attention"}
    if others or config.get("sliding_window") is not None or config.get("use_sliding_window"):
        raise ConfigError(f"a cache of {kind} must hold every token: {', '.join(sorted(others)) or 'sliding_window'}")
    try:
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError:
        raise ConfigError(f"model_type {kind!r} needs transformers: pip install 'splitrt[llm]'") from None
    try:
        known = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if set(getattr(known, "layer_types", None) or ()) - {"full_attention"}:
            raise ConfigError(
                f"a cache of {kind} must hold every token, its layers are {sorted(set(known.layer_types))}"
            )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, config=known, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            attn_implementation="eager", output_loading_info=True,
        )  # fmt: skip
    except SplitError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, SafetensorError) as error:
        raise ConfigError(
            f"model_type must be one that transformers loads as a causal model, got {kind!r}: {str(error)[:160]}"
        ) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise BundleError(f"weights must hold {missing[0]} and {len(missing) - 1} others that are missing")
    return Adapter(model, device)


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [] if given is None else [given]


def _library_cache(cache: Cache | None, slots: Sequence[int]) -> Any:
    """The library's own, that holds what ours has in these slots."""
    from transformers import DynamicCache

    made = DynamicCache()
    if cache is not None and len(slots):
        places = torch.tensor([*slots], device=cache.keys[0].device)
        for layer, (keys_SKE, values_SKE) in enumerate(zip(cache.keys, cache.values, strict=True)):
            made.update(keys_SKE[places].transpose(0, 1)[None], values_SKE[places].transpose(0, 1)[None], layer)
    return made


def _layers(held: Any) -> list[tuple[Tensor, Tensor]]:
    return [(layer.keys, layer.values) for layer in held.layers]


def _slots(row: Row) -> list[int]:
    """Of all that a row sees, itself the last."""
    return [*range(row.start), *(row.start + node for node in row.path)]


def _tree_mask(rows: Sequence[Row]) -> Tensor:
    """mask_11TS: 0 where a row sees, else the lowest number there is."""
    start = rows[0].start
    mask_TS = torch.full((len(rows), start + len(rows)), torch.finfo(torch.float32).min)
    for place, row in enumerate(rows):
        mask_TS[place, _slots(row)] = 0.0
    return mask_TS[None, None]


def _tried(vocabulary: int, tokens: int) -> list[int]:
    return [(7 * place + place * place + 3) % vocabulary for place in range(tokens)]
