"""A language bundle on disk: a target, its drafter and the one tokenizer of both, every byte by its digest.

    name-version/
      language.toml            name, version, context, tokens that end a text, digests; its SHA-256 names the bundle
      tokenizer.json
      draft/config.json  draft/model.safetensors      the device's half
      target/config.json  target/model.safetensors    the server's: it never leaves it
      moa/config.json  moa/model.safetensors          where there is one: a drafter that sees the target's states,
      states/model.safetensors                        and the server's part of it

Models are folders as Hugging Face or llama2.c lay them out. Torch is imported by who reads the weights only.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from splitrt.bundle import MAX_MANIFEST_BYTES, built_in_folder, by_version, check_file, digests, new_folder
from splitrt.errors import BundleError, ModelNotFound
from splitrt.manifest import NAME, VERSION

if TYPE_CHECKING:
    from torch import Tensor

    from splitrt.language.moa_config import MoaConfig
    from splitrt.language.model import Model
    from splitrt.language.states import StateMaker
    from splitrt.language.tokens import Tokenizer

MANIFEST = "language.toml"
FILE = re.compile(r"^(tokenizer\.json|(draft|target|moa|states)/[A-Za-z0-9._-]{1,100}\.(json|safetensors))$")
SERVER_HALVES = ("target/", "states/")  # they never leave it


class LanguageManifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1]
    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: str = Field(pattern=f"^{VERSION.pattern}$")
    context: int = Field(ge=2, le=1 << 20)  # tokens of a text, its prompt included
    ends: tuple[Annotated[int, Field(ge=0, lt=1 << 32)], ...] = Field((), max_length=64)  # tokens that end a text
    files: dict[str, str]

    @field_validator("files")
    @classmethod
    def _sound(cls, files: dict[str, str]) -> dict[str, str]:
        for path, digest in files.items():
            if not FILE.fullmatch(path) or not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ValueError(f"files must map names of a language bundle to SHA-256 digests, got {path!r}")
        if "tokenizer.json" not in files:
            raise ValueError("files must hold tokenizer.json")
        return files


@dataclass(frozen=True, slots=True)
class LanguageBundle:
    folder: Path
    manifest: LanguageManifest
    digest: bytes

    @property
    def name(self) -> str:
        return f"{self.manifest.name}-{self.manifest.version}"

    @property
    def has_target(self) -> bool:
        return (self.folder / "target").is_dir()

    @property
    def tokenizer_digest(self) -> bytes:
        return bytes.fromhex(self.manifest.files["tokenizer.json"])

    def head_files(self) -> dict[str, Path]:
        """What a device may fetch and where it lies, the manifest first."""
        listed = (file for file in sorted(self.manifest.files) if not file.startswith(SERVER_HALVES))
        return {file: self.folder / file for file in (MANIFEST, *listed)}

    @property
    def has_moa(self) -> bool:
        return "moa/config.json" in self.manifest.files

    def tokenizer(self) -> Tokenizer:
        from splitrt.language.tokens import load_tokenizer

        return load_tokenizer(self.folder / "tokenizer.json")

    def model(self, half: Literal["draft", "target"], device: str = "cpu") -> Model:
        """Raises BundleError where the half is not here."""
        from splitrt.language.folder import load_folder

        if not (self.folder / half).is_dir():
            raise BundleError(f"bundle {self.name} has no {half} here")
        return load_folder(self.folder / half, device)

    def moa(self) -> tuple[MoaConfig, dict[str, Tensor]]:
        """The drafter that sees states: its device's part. Raises BundleError where there is none."""
        from splitrt.language.folder import read_weights
        from splitrt.language.moa_config import read_moa_config

        if not self.has_moa:
            raise BundleError(f"bundle {self.name} has no Mixture of Attentions drafter (moa/)")
        config = read_moa_config(self.folder / "moa" / "config.json")
        return config, read_weights([self.folder / "moa" / "model.safetensors"], config.shapes())

    def state_maker(self, target: Model) -> StateMaker | None:
        """The server's part of it; None where the bundle has none."""
        from splitrt.language.folder import read_weights
        from splitrt.language.moa_config import read_moa_config
        from splitrt.language.states import StateMaker, state_shapes

        if not self.has_moa:
            return None
        config = read_moa_config(self.folder / "moa" / "config.json")
        file = self.folder / "states" / "model.safetensors"
        return StateMaker(config, read_weights([file], state_shapes(config)), target)


def is_language(name: str, extra: Path | None = None) -> bool:
    return _folder(name, extra) is not None


def find_language(name: str, extra: Path | None = None) -> LanguageBundle:
    """By name, name-version or folder. Raises ModelNotFound or BundleError."""
    folder = _folder(name, extra)
    if folder is None:
        raise ModelNotFound(f"a language bundle must be a folder with a {MANIFEST}, or a known name; got {name!r}")
    return load_language(folder)


def load_language(folder: Path) -> LanguageBundle:
    """Read and check every file. Raises BundleError."""
    path = folder / MANIFEST
    if not path.is_file() or path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST} must be a file of at most {MAX_MANIFEST_BYTES} bytes")
    data = path.read_bytes()
    manifest = parse_language(data)
    has_target = (folder / "target").exists()
    for file, wanted in manifest.files.items():
        if has_target or not file.startswith(SERVER_HALVES):
            check_file(folder, file, wanted)
    return LanguageBundle(folder, manifest, hashlib.sha256(data).digest())


def parse_language(data: bytes) -> LanguageManifest:
    """Raises BundleError with the key."""
    try:
        return LanguageManifest.model_validate(tomllib.loads(data.decode()))
    except ValidationError as error:
        problem = error.errors()[0]
        raise BundleError(f"{MANIFEST}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is no TOMLDecodeError
        raise BundleError(f"{MANIFEST} must be valid TOML: {error}") from error


def make_language(
    folder: Path,
    *,
    name: str,
    version: str,
    target: Path,
    draft: Path,
    tokenizer: Path,
    ends: tuple[int, ...] = (),
    moa: Path | None = None,
) -> Path:
    """A bundle out of two models' folders and a tokenizer's file, copied; moa: a folder of `moa` and `states`.
    Returns its folder, which appears when all of it is there.

    Raises ConfigError on a name that is none and where the folder exists, BundleError where the two disagree with the
    tokenizer or one another.
    """
    from splitrt.language.folder import load_folder
    from splitrt.language.tokens import load_tokenizer

    finished = new_folder(folder, name, version)
    models, tokens = [load_folder(target), load_folder(draft)], load_tokenizer(tokenizer)
    vocabularies = [model.config.vocabulary for model in models]
    # Folders may pad their embeddings, but then both must: a token of one is a token of the other.
    if vocabularies[0] != vocabularies[1] or vocabularies[0] < tokens.vocabulary:
        raise BundleError(
            f"target and draft must have one vocabulary of at least the tokenizer's {tokens.vocabulary}, "
            f"got {vocabularies}"
        )
    made = finished.with_name(f".{finished.name}.new")
    shutil.rmtree(made, ignore_errors=True)
    halves = [("target", target), ("draft", draft)]
    if moa is not None:
        halves += [(half, moa / half) for half in ("moa", "states")]
    for half, source in halves:
        (made / half).mkdir(parents=True, exist_ok=True)
        for file in sorted(source.iterdir()):
            if file.suffix in (".json", ".safetensors") and file.name != "tokenizer.json":
                shutil.copyfile(file, made / half / file.name)
    shutil.copyfile(tokenizer, made / "tokenizer.json")
    lines = [
        "schema_version = 1",
        f"name = {json.dumps(name)}",
        f"version = {json.dumps(version)}",
        f"context = {models[0].config.context}",
        f"ends = {list(ends)}",
        "\n[files]",
        *(f"{json.dumps(file)} = {json.dumps(digest)}" for file, digest in digests(made).items() if file != MANIFEST),
    ]
    (made / MANIFEST).write_text("\n".join(lines) + "\n")
    load_language(made)
    made.rename(finished)
    return finished


def language_folders(extra: Path | None = None) -> list[Path]:
    """Of every language bundle, the newest first where a name has several; `extra` before the built-in ones."""
    roots = filter(None, (extra, built_in_folder()))
    return [path.parent for root in roots for path in _newest_first(root)]


def _newest_first(root: Path) -> list[Path]:
    return sorted(root.glob(f"*/{MANIFEST}"), key=lambda path: by_version(path.parent.name), reverse=True)


def _folder(name: str, extra: Path | None) -> Path | None:
    if (Path(name) / MANIFEST).is_file():
        return Path(name)
    for folder in language_folders(extra):
        if name in (folder.name, folder.name.rpartition("-")[0]):
            return folder
    return None
