"""Text to tokens and back: stories260K's own file, or a Hugging Face `tokenizer.json`.

A token may be part of a character only: `decode` shows U+FFFD for what is not whole.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from splitrt.errors import BundleError, ConfigError, InvalidInput
from splitrt.language.folder import read_json

MOST_PIECES = 1 << 20
MOST_FILE_BYTES = 64 << 20
BYTES_FROM = 3  # stories: the piece of byte b is BYTES_FROM + b
STORIES_BOS, STORIES_EOS = 1, 2


class Tokenizer(Protocol):
    @property
    def vocabulary(self) -> int: ...

    @property
    def digest(self) -> bytes:
        """SHA-256 of its file."""
        ...

    def encode(self, text: str) -> list[int]:
        """With the beginning-of-text token where the model wants one."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...


def load_tokenizer(file: Path) -> Tokenizer:
    """Raises BundleError on a file that is none, ConfigError where the `tokenizers` package is needed and missing."""
    try:
        if file.stat().st_size > MOST_FILE_BYTES:
            raise BundleError(f"{file.name} must be at most {MOST_FILE_BYTES} bytes")
        data = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file.name} must be a readable file: {error}") from error
    digest = hashlib.sha256(data).digest()
    if b'"pieces"' in data[: 1 << 16]:
        return StoriesTokenizer(read_json(file), digest)
    return HuggingFaceTokenizer(data, digest)


class StoriesTokenizer:
    """Sentencepiece BPE: the pair whose piece has the highest score is merged first; unknown characters are bytes."""

    def __init__(self, content: dict[str, Any], digest: bytes) -> None:
        self.digest = digest
        pieces = content.get("pieces")
        if not isinstance(pieces, list) or not BYTES_FROM + 256 <= len(pieces) <= MOST_PIECES:
            raise BundleError(f"tokenizer must have {BYTES_FROM + 256} to {MOST_PIECES} pieces")
        try:
            self._pieces = [base64.b64decode(piece["b64"], validate=True) for piece in pieces]
            self._scores = [float(piece["score"]) for piece in pieces]
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"a piece must have b64 bytes and a score: {error}") from error
        for byte in range(256):
            self._pieces[BYTES_FROM + byte] = bytes([byte])
        self._ids = {piece: place for place, piece in enumerate(self._pieces) if place >= BYTES_FROM + 256}

    @property
    def vocabulary(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        return [STORIES_BOS, *(self.merge(" " + text) if text else [])]

    def merge(self, text: str) -> list[int]:
        """Without a beginning or a space before it."""
        ids: list[int] = []
        for character in text:
            data = character.encode("utf-8", "surrogateescape")
            ids += [self._ids[data]] if data in self._ids else [BYTES_FROM + byte for byte in data]
        while True:
            best: tuple[float, int, int] | None = None
            for place in range(len(ids) - 1):
                merged = self._ids.get(self._pieces[ids[place]] + self._pieces[ids[place + 1]])
                if merged is not None and (best is None or self._scores[merged] > best[0]):
                    best = (self._scores[merged], place, merged)
            if best is None:
                return ids
            ids[best[1] : best[1] + 2] = [best[2]]

    def decode(self, ids: Sequence[int]) -> str:
        parts = []
        for place, one in enumerate(ids):
            if not 0 <= one < len(self._pieces):
                raise InvalidInput(f"token ids must be below {len(self._pieces)}, got {one}")
            piece = b"" if one in (0, STORIES_BOS, STORIES_EOS) else self._pieces[one]
            is_first = place > 0 and ids[place - 1] == STORIES_BOS
            parts.append(piece[1:] if is_first and piece.startswith(b" ") else piece)
        return b"".join(parts).decode("utf-8", "replace")


class HuggingFaceTokenizer:
    """What `tokenizers` makes of a tokenizer.json."""

    def __init__(self, data: bytes, digest: bytes) -> None:
        self.digest = digest
        try:
            from tokenizers import Tokenizer as Tokenizers
        except ImportError:
            raise ConfigError("a tokenizer.json needs tokenizers: pip install 'splitrt[llm]'") from None
        try:
            self._tokenizer = Tokenizers.from_buffer(data)
        except Exception as error:  # the package raises bare Exception
            raise BundleError(f"tokenizer.json must be readable by tokenizers: {str(error)[:100]}") from error

    @property
    def vocabulary(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))
