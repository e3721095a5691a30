"""A small vocabulary of byte-pair merges, learnt from a text, in the file format that `StoriesTokenizer` reads.

Merges stay within words (a space before a word is part of it), so a text may be encoded word by word.
Byte-pair encoding: Sennrich et al., ACL 2016, arXiv:1508.07909.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from pathlib import Path

from splitrt.language.tokens import BYTES_FROM, StoriesTokenizer

WORD = re.compile(r" ?[^\s]+|\s")


def learn_pieces(text: str, vocabulary: int) -> list[bytes]:
    """The pieces behind the 259 special ones and bytes, most frequent merge first."""
    words = {
        tuple(bytes([byte]) for byte in word.encode()): count for word, count in Counter(WORD.findall(text)).items()
    }
    pieces: list[bytes] = []
    while len(pieces) < vocabulary - BYTES_FROM - 256:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merged = best[0] + best[1]
        if merged not in pieces:
            pieces.append(merged)
        words = {_merge(word, best, merged): count for word, count in words.items()}
    return pieces


def _merge(word: tuple[bytes, ...], pair: tuple[bytes, bytes], merged: bytes) -> tuple[bytes, ...]:
    if merged not in b"".join(word):
        return word
    made: list[bytes] = []
    for piece in word:
        if made and (made[-1], piece) == pair:
            made[-1] = merged
        else:
            made.append(piece)
    return tuple(made)


def write_vocabulary(file: Path, pieces: list[bytes]) -> None:
    special = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    rows = [{"b64": base64.b64encode(piece).decode(), "score": -float(place)} for place, piece in enumerate(special)]
    rows += [{"b64": base64.b64encode(piece).decode(), "score": -float(place)} for place, piece in enumerate(pieces, 1)]
    described = (
        "id -> {b64: bytes, score}; 0 unk, 1 BOS, 2 EOS, 3..258 bytes; the pair of the highest score merges first"
    )
    file.write_text(json.dumps({"format": described, "pieces": rows}) + "\n")


def encode_text(tokenizer: StoriesTokenizer, text: str) -> list[int]:
    """A long text, word by word, without a beginning."""
    known: dict[str, list[int]] = {}
    ids: list[int] = []
    for word in WORD.findall(text):
        if word not in known:
            known[word] = tokenizer.merge(word)
        ids += known[word]
    return ids
