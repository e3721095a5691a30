"""Our own values <-> protobuf messages of the Speculate service, both ways.

As in `messages`, nothing here decides: what a peer sent becomes checked types or a typed error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from splitrt.errors import BadFrame, InvalidInput, SplitError
from splitrt.language.sampling import Sampling
from splitrt.rpc import status
from splitrt.rpc.messages import MESSAGE_FRAMING_BYTES
from splitrt.rpc.v1 import speculate_pb2 as pb
from splitrt.rpc.v1 import speculate_pb2_grpc as pb_grpc

PROTOCOL = 1
SESSION_BYTES = 16
MOST_NODES = 255  # a parent's distance is one byte
MOST_ENDS = 64
MOST_DRAFTED = 16  # tokens of a draft of the server's own

Servicer = pb_grpc.SpeculateServicer
NAME: str = pb.DESCRIPTOR.services_by_name["Speculate"].full_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a stream begins: which bundle, whose tokens, which text, how its tokens are chosen."""

    bundle: str
    version: str
    bundle_digest: bytes
    tokenizer_digest: bytes
    vocabulary: int
    session: bytes
    sampling: Sampling
    ends: tuple[int, ...] = ()
    states: bool = False  # verdicts are to carry the states of newly verified tokens
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    context: int
    max_nodes: int
    held: int = 0
    held_hash: int = 0
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A draft to verify behind `base` committed tokens."""

    round: int
    base: int
    base_hash: int
    start: int  # `from` on the wire: where `prefix` begins among the committed tokens
    prefix: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    more: int = 0
    drafted: int = 0  # tokens of the drafts that the server then makes itself
    stated: int = 0  # first tokens whose states the device holds

    @property
    def depth(self) -> int:
        """Of the draft: 0 where it is empty."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 + (depths[parent] if parent >= 0 else 0))
        return max(depths, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    round: int
    base: int
    path: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    queue_s: float = 0.0
    verify_s: float = 0.0
    need_prefix: bool = False
    error: SplitError | None = None
    states: bytes = b""  # of the last verified tokens; the last of them is the accepted path's end

    @property
    def verified(self) -> int:
        """Tokens that the target has read: the last it said is not among them."""
        return self.base + len(self.path)


def add_servicer(servicer: Any, server: Any) -> None:
    pb_grpc.add_SpeculateServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]


def open_stub(channel: Any) -> Any:
    """Generate of the server at the channel's far end."""
    return pb_grpc.SpeculateStub(channel)  # type: ignore[no-untyped-call]


def add_relay(behaviour: Any, server: Any) -> None:
    """Generate with messages as they are on the wire, for whoever passes them on."""
    handler = grpc.stream_stream_rpc_method_handler(behaviour)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, {"Generate": handler}),))


def open_bytes(channel: Any) -> Any:
    """Generate of the server at the channel's far end, with messages as they are on the wire."""
    return channel.stream_stream(f"/{NAME}/Generate")


def opening_in(message: bytes) -> Opening | None:
    """The opening that a message holds. Raises DecodeError, BadFrame or InvalidInput."""
    found = from_drafter(pb.FromDrafter.FromString(message))
    return found if isinstance(found, Opening) else None


def verdict_in(message: bytes) -> Verdict | None:
    """The verdict that a replica's message holds."""
    found = from_verifier(pb.FromVerifier.FromString(message))
    return found if isinstance(found, Verdict) else None


def link_bytes(message: Any) -> int:
    """Serialised, with HTTP/2 and gRPC framing; TLS and IP not counted."""
    return int(message.ByteSize()) + MESSAGE_FRAMING_BYTES


# ── device to server ────────────────────────────────────────────────────────────────────────────────


def opening_to_wire(opening: Opening) -> pb.FromDrafter:
    sampling = opening.sampling
    return pb.FromDrafter(
        open=pb.Open(
            protocol=opening.protocol,
            bundle=opening.bundle,
            version=opening.version,
            bundle_digest=opening.bundle_digest,
            tokenizer_digest=opening.tokenizer_digest,
            vocabulary=opening.vocabulary,
            session=opening.session,
            sampling=pb.Sampling(
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                repetition_penalty=sampling.repetition_penalty,
                seed=sampling.seed,
            ),
            ends=opening.ends,
            states=opening.states,
        )
    )


def round_to_wire(one: Round) -> pb.FromDrafter:
    is_chain = one.parents == tuple(range(-1, len(one.ids) - 1))
    back = bytes(node - parent if parent >= 0 else 0 for node, parent in enumerate(one.parents))
    wire = pb.Round(
        round=one.round,
        base=one.base,
        base_hash=one.base_hash,
        prefix=one.prefix,
        ids=one.ids,
        back=b"" if is_chain else back,
        more=one.more,
        drafted=one.drafted,
        stated=one.stated,
    )
    setattr(wire, "from", one.start)  # a word of Python's
    return pb.FromDrafter(round=wire)


def from_drafter(message: pb.FromDrafter) -> Opening | Round:
    """Raises BadFrame (`tree`: a draft with orphans or cycles) or InvalidInput."""
    body = message.WhichOneof("body")
    if body == "round":
        return _round(message.round)
    if body == "open":
        return _opening(message.open)
    raise BadFrame("a message must hold an opening or a round", reason="malformed")


def refused(message: pb.FromDrafter, error: SplitError) -> Verdict | None:
    """What is said of a round that is none: its own end, not its stream's. None where it was no round at all."""
    if message.WhichOneof("body") != "round":
        return None
    return Verdict(round=message.round.round, base=message.round.base, error=error)


def _opening(wire: pb.Open) -> Opening:
    if len(wire.session) != SESSION_BYTES:
        raise BadFrame(f"session must be {SESSION_BYTES} bytes, got {len(wire.session)}", reason="malformed")
    if len(wire.ends) > MOST_ENDS:
        raise BadFrame(f"at most {MOST_ENDS} tokens may end a text, got {len(wire.ends)}", reason="malformed")
    sampling = wire.sampling
    return Opening(
        protocol=wire.protocol,
        bundle=wire.bundle,
        version=wire.version,
        bundle_digest=wire.bundle_digest,
        tokenizer_digest=wire.tokenizer_digest,
        vocabulary=wire.vocabulary,
        session=wire.session,
        sampling=Sampling(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
        ),
        ends=tuple(wire.ends),
        states=wire.states,
    )


def _round(wire: pb.Round) -> Round:
    nodes, start = len(wire.ids), getattr(wire, "from")
    if start + len(wire.prefix) != wire.base:
        raise BadFrame(f"{len(wire.prefix)} tokens from {start} on must end at base {wire.base}", reason="prefix")
    if nodes > MOST_NODES:
        raise BadFrame(f"a draft must be at most {MOST_NODES} nodes, got {nodes}", reason="tree")
    if len(wire.back) not in (0, nodes):
        raise BadFrame(f"a draft of {nodes} nodes must say as many parents, got {len(wire.back)}", reason="tree")
    if any(back > node for node, back in enumerate(wire.back)):
        raise BadFrame("a draft's parents must come before their children", reason="tree")
    back = wire.back or bytes([0] + [1] * (nodes - 1) if nodes else [])
    return Round(
        round=wire.round,
        base=wire.base,
        base_hash=wire.base_hash,
        start=start,
        prefix=tuple(wire.prefix),
        ids=tuple(wire.ids),
        parents=tuple(node - one if one else -1 for node, one in enumerate(back)),
        more=wire.more,
        drafted=wire.drafted,
        stated=wire.stated,
    )


# ── server to device ────────────────────────────────────────────────────────────────────────────────


def opened_to_wire(opened: Opened) -> pb.FromVerifier:
    return pb.FromVerifier(
        opened=pb.Opened(
            protocol=opened.protocol,
            context=opened.context,
            max_nodes=opened.max_nodes,
            held=opened.held,
            held_hash=opened.held_hash,
        )
    )


def verdict_to_wire(verdict: Verdict) -> pb.FromVerifier:
    wire = pb.Verdict(
        round=verdict.round,
        base=verdict.base,
        path=bytes(verdict.path),
        tokens=verdict.tokens,
        queue_us=int(verdict.queue_s * 1e6),
        verify_us=int(verdict.verify_s * 1e6),
        need_prefix=verdict.need_prefix,
        states=verdict.states,
    )
    if verdict.error is not None:
        wire.error.CopyFrom(status.to_wire(verdict.error))
    return pb.FromVerifier(verdict=wire)


def from_verifier(message: pb.FromVerifier) -> Opened | Verdict:
    """Raises BadFrame on what no server of ours sends."""
    body = message.WhichOneof("body")
    if body == "verdict":
        wire = message.verdict
        return Verdict(
            round=wire.round,
            base=wire.base,
            path=tuple(wire.path),
            tokens=tuple(wire.tokens),
            queue_s=wire.queue_us / 1e6,
            verify_s=wire.verify_us / 1e6,
            need_prefix=wire.need_prefix,
            error=status.from_wire(wire.error) if wire.HasField("error") else None,
            states=wire.states,
        )
    if body == "opened":
        opened = message.opened
        if opened.protocol != PROTOCOL:
            raise BadFrame(f"protocol must be {PROTOCOL}, got {opened.protocol}", reason="protocol")
        if not opened.context or not opened.max_nodes:
            raise BadFrame("a server must take a context and a draft of at least one token", reason="malformed")
        return Opened(context=opened.context, max_nodes=opened.max_nodes, held=opened.held, held_hash=opened.held_hash)
    raise BadFrame("a message must hold an opened or a verdict", reason="malformed")


def check_verdict(verdict: Verdict, one: Round, vocabulary: int) -> None:
    """Raises InvalidInput on a verdict that cannot be of this round: its path is no path of the draft."""
    before = -1
    for node in verdict.path:
        if node >= len(one.ids) or one.parents[node] != before:
            raise InvalidInput(f"a verdict's path must be one of the draft's, got {list(verdict.path)}")
        before = node
    if verdict.need_prefix or verdict.error is not None:
        return
    if not verdict.tokens or any(token >= vocabulary for token in verdict.tokens):
        raise InvalidInput(f"a verdict must say tokens below {vocabulary}, got {list(verdict.tokens)[:8]}")
