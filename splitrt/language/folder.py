"""A decoder out of a folder: Hugging Face's layout, or llama2.c's names as in stories260K. Safetensors only.

    config.json                       {"model_type": "llama" | "qwen2" | "qwen3" | "mistral", ...}; others: `adapter`
    model.safetensors                 or model.safetensors.index.json and the shards that it names

Every size is checked against the configuration before a tensor is allocated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from splitrt.errors import BundleError, ConfigError
from splitrt.language.decoder import Decoder, DecoderConfig
from splitrt.language.model import Model
from splitrt.language.rope import Rope, read_rope

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
MOST_CONFIG_BYTES = 1 << 20
MOST_SHARDS = 256

STORIES_NAMES = {
    "embed_tokens": "tok_embeddings",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
}


def load_folder(folder: Path, device: str = "cpu") -> Model:
    """Raises BundleError where files are missing or disagree, ConfigError on an architecture that cannot be served."""
    config = read_json(folder / "config.json")
    if "model_type" in config and config["model_type"] not in ARCHITECTURES:
        from splitrt.language.adapter import load_adapter

        return load_adapter(folder, config, device)
    if "model_type" in config:
        files, named, prefix = _files(folder), _hugging_face(config), "model."
        names = {name: name if name.startswith("lm_head") else prefix + name for name in named.shapes()}
        return Decoder(named, read_weights(files, named.shapes(), names.__getitem__), device)
    return load_stories(folder / "config.json", folder / "model.safetensors", device)


def load_stories(config_file: Path, weights_file: Path, device: str = "cpu") -> Decoder:
    """llama2.c's layout: one file of settings, one of weights, pairs of RoPE interleaved."""
    config = _stories(read_json(config_file))
    return Decoder(config, read_weights([weights_file], config.shapes(), _stories_name), device)


def end_tokens(folder: Path) -> tuple[int, ...]:
    """Tokens that end a text, by generation_config.json or config.json; none where neither says."""
    for name in ("generation_config.json", "config.json"):
        given = read_json(folder / name).get("eos_token_id") if (folder / name).is_file() else None
        ends = given if isinstance(given, list) else [] if given is None else [given]
        if ends and all(isinstance(one, int) for one in ends):
            return tuple(ends)
    return ()


def read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MOST_CONFIG_BYTES:
            raise BundleError(f"{file.name} must be at most {MOST_CONFIG_BYTES} bytes")
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file.name} must be a readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{file.name} must hold an object, got {type(content).__name__}")
    return content


def _hugging_face(config: Mapping[str, Any]) -> DecoderConfig:
    kind = config["model_type"]
    if config.get("hidden_act", "silu") != "silu":
        raise ConfigError(f"hidden_act must be silu, got {str(config['hidden_act'])[:64]!r}")
    bias = bool(config.get("attention_bias", False))
    try:
        return DecoderConfig(
            vocabulary=_whole(config, "vocab_size"),
            hidden=_whole(config, "hidden_size"),
            feed_forward=_whole(config, "intermediate_size"),
            layers=_whole(config, "num_hidden_layers"),
            heads=_whole(config, "num_attention_heads"),
            kv_heads=_whole(config, "num_key_value_heads", config["num_attention_heads"]),
            head_dim=_whole(config, "head_dim", config["hidden_size"] // config["num_attention_heads"]),
            context=_whole(config, "max_position_embeddings"),
            norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            rope=read_rope(config),
            qkv_bias=kind == "qwen2" or bias,
            output_bias=bias and kind != "qwen2",
            qk_norm=kind == "qwen3",
            tied=bool(config.get("tie_word_embeddings", False)),
            window=_window(config, kind),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"config.json must describe a {kind} model: {type(error).__name__} {error}") from error


def _window(config: Mapping[str, Any], kind: str) -> int | None:
    """Of Mistral. Qwen's windows differ by layer, which is refused rather than answered wrongly."""
    if kind == "mistral":
        return None if config.get("sliding_window") is None else _whole(config, "sliding_window")
    if config.get("use_sliding_window") or "sliding_attention" in (config.get("layer_types") or ()):
        raise ConfigError("windows that differ by layer (use_sliding_window) are not known here")
    if config.get("mlp_bias"):
        raise ConfigError("mlp_bias is not known here")
    return None


def _whole(config: Mapping[str, Any], name: str, default: Any = None) -> int:
    value = config[name] if config.get(name) is not None or default is None else default
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"config.json: {name} must be a whole number, got {str(value)[:64]!r}")
    return value


def _stories(config: Mapping[str, Any]) -> DecoderConfig:
    wanted = ("vocab_size", "dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "max_seq_len")
    if missing := [name for name in wanted if name not in config]:
        raise ConfigError(f"config.json must name a model_type, or be a llama2.c model's: {missing[0]} is missing")
    heads = _whole(config, "n_heads")
    if heads < 1 or not config.get("tied_embeddings", True):
        raise ConfigError("a llama2.c model must have at least one head and tied embeddings")
    return DecoderConfig(
        vocabulary=_whole(config, "vocab_size"),
        hidden=_whole(config, "dim"),
        feed_forward=_whole(config, "hidden_dim"),
        layers=_whole(config, "n_layers"),
        heads=heads,
        kv_heads=_whole(config, "n_kv_heads"),
        head_dim=_whole(config, "dim") // heads,
        context=_whole(config, "max_seq_len"),
        rope=Rope(interleaved=True),
        tied=True,
    )


def _stories_name(name: str) -> str:
    for ours, theirs in STORIES_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    shards = read_json(index).get("weight_map", {})
    names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    if not 1 <= len(names) <= MOST_SHARDS or any(Path(name).name != name for name in names):
        raise BundleError(f"{index.name} must name 1 to {MOST_SHARDS} files beside it, got {len(names)}")
    return [folder / name for name in names]


def read_weights(
    files: Sequence[Path], shapes: Mapping[str, tuple[int, ...]], their_name: Callable[[str], str] = str
) -> dict[str, Tensor]:
    """Tensors by our names, shapes checked before they are read; what the files hold beyond them stays unread."""
    from safetensors import SafetensorError, safe_open

    wanted = {their_name(name): (name, shape) for name, shape in shapes.items()}
    found: dict[str, Tensor] = {}
    for file in files:
        if file.is_symlink() or file.suffix != ".safetensors":
            raise BundleError(f"weights must be plain safetensors files, got {file.name}")
        try:
            with safe_open(file, "pt") as opened:
                for theirs in set(opened.keys()) & set(wanted):
                    ours, shape = wanted[theirs]
                    given = tuple(opened.get_slice(theirs).get_shape())
                    if given != shape:
                        raise BundleError(f"weight {theirs} must have shape {shape}, got {given}")
                    found[ours] = opened.get_tensor(theirs)
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{file.name} must be a readable safetensors file: {error}") from error
    if missing := sorted(their for their, (ours, _) in wanted.items() if ours not in found):
        raise BundleError(f"weights must hold {missing[0]} and {len(missing) - 1} others that are missing")
    return found
