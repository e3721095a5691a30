"""MODEL as a user writes it, to a module with inputs to capture it on.

    resnet:depth=20                  a family with its arguments
    folder/                          as `save_pretrained` of transformers leaves it: config.json, safetensors
    package.module:factory           a function of the user: (module, inputs) or (module, inputs, keywords); looked
                                     for in the folder of the call as well

A dotted path comes from the command line alone, never from a file or the wire; code that lies in a folder is not run.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from splitrt import families
from splitrt.errors import ConfigError
from splitrt.manifest import LEAST_SIDE, MOST_SIDE, Pixels
from splitrt.nn.split import Whole

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
TOKENS = 16  # of a language model's sample input
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A module in evaluation mode, inputs of a batch of one, and what becomes of a photograph where it takes one."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    pixels: Pixels | None = None
    kind: str = "tensor"


def open_model(text: str, weights: Path | None = None, seed: int = 0) -> Model:
    """weights: a family's published ones; without them they are random. Raises ConfigError."""
    torch.manual_seed(seed)
    is_factory = bool(FACTORY.fullmatch(text)) and text.partition(":")[0] not in families.names()
    if weights is not None and (Path(text).is_dir() or is_factory):
        raise ConfigError(f"weights are of a family, {text} has its own")
    if Path(text).is_dir():
        return _from_folder(Path(text))
    if is_factory:
        return _from_factory(text)
    return _from_family(text, weights)


def _from_family(text: str, weights: Path | None) -> Model:
    name, arguments = families.parse(text)
    heads, tails = families.head_module(name), families.tail_module(name)
    try:
        front, back = heads.build(**arguments), tails.build(**arguments)
    except TypeError as error:
        raise ConfigError(f"family {name}: {error}") from error
    if weights is not None:
        try:
            published = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"weights must be a safetensors file, got {weights}") from error
        for piece, module in ((front, heads), (back, tails)):
            piece.load_state_dict(module.pretrained(published, **arguments), strict=False)
    side = arguments.get("resolution", heads.PIXELS["height"])
    pixels = Pixels.model_validate(heads.PIXELS | {"height": side, "width": side})
    kind = getattr(heads, "OUTPUT", "classes")
    return Model(
        name=name,
        module=Whole(front, back).eval(),
        inputs=(torch.randn(1, 3, side, side),),
        pixels=pixels,
        kind=kind if kind == "classes" else "tensor",
    )


def _from_factory(text: str) -> Model:
    path, _, name = text.partition(":")
    if "" not in sys.path:  # an installed command does not look where it is called, `python -m` does
        sys.path.insert(0, "")
    try:
        factory = getattr(import_module(path), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"MODEL must be package.module:factory that can be imported, got {text!r}: {error}"
        ) from error
    made = factory() if callable(factory) and not isinstance(factory, nn.Module) else factory
    module, inputs, keywords = (*made, {}, {})[:3] if isinstance(made, tuple) else (made, None, {})
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{text} must give a torch module, or one with inputs, got {type(module).__name__}")
    if not isinstance(inputs, tuple | list) or not inputs:
        raise ConfigError(f"{text} must give (module, inputs): without sample inputs nothing can be captured")
    return Model(
        name=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model",
        module=module,
        inputs=tuple(inputs),
        keywords=keywords,
        pixels=photograph_of(inputs),
    )


def _from_folder(folder: Path) -> Model:
    try:
        import transformers
    except ImportError:
        raise ConfigError("a folder of transformers needs the llm extra: pip install 'splitrt[llm]'") from None
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = getattr(transformers, (config.architectures or ["?"])[0])
        config.use_cache = False
        module = kind.from_pretrained(folder, config=config, local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError, AttributeError, KeyError, SafetensorError) as error:
        raise ConfigError(f"{folder} must hold a config.json that names its class, and safetensors: {error}") from error
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "model"
    if module.main_input_name == "pixel_values":
        side = config.image_size if isinstance(getattr(config, "image_size", None), int) else 224
        inputs = (torch.randn(1, getattr(config, "num_channels", 3), side, side),)
        return Model(
            name=name,
            module=module,
            inputs=inputs,
            pixels=photograph_of(inputs, _preprocessing(folder)),
            kind="classes" if "ImageClassification" in kind.__name__ else "tensor",
        )
    ids_BT = torch.randint(0, config.get_text_config().vocab_size, (1, TOKENS))
    return Model(name=name, module=module, inputs=(ids_BT,))


def _preprocessing(folder: Path) -> dict[str, Any]:
    """Mean and deviation of the folder's preprocessor_config.json, where there is one."""
    file = folder / "preprocessor_config.json"
    try:
        given = json.loads(file.read_bytes()) if file.is_file() else {}
        return {"mean": tuple(given["image_mean"]), "std": tuple(given["image_std"])} if "image_mean" in given else {}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} must hold image_mean and image_std: {error}") from error


def photograph_of(inputs: Any, treated: Mapping[str, Any] = IMAGENET) -> Pixels | None:
    """What becomes of a photograph for a network whose one input is a map of three channels; None for others.

    Raises ConfigError where it cannot be treated so.
    """
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].dtype != torch.float32:
        return None
    if inputs[0].ndim != 4 or tuple(inputs[0].shape[:2]) != (1, 3):
        return None
    height, width = inputs[0].shape[2:]
    if not (LEAST_SIDE <= height <= MOST_SIDE and LEAST_SIDE <= width <= MOST_SIDE):
        return None
    try:
        return Pixels.model_validate({**IMAGENET, **treated, "height": height, "width": width})
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "pixels"
        raise ConfigError(f"a photograph's {place}, of preprocessor_config.json: {problem['msg']}") from error
