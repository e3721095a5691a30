"""Our own values <-> protobuf messages of the Speculate service, both ways.

As in `messages`, nothing here decides: what a peer sent becomes checked types or a typed error.
"""

from __future__ import annotations

from typing import Any

import grpc

from splitrt.errors import BadFrame, SplitError
from splitrt.language.sampling import Sampling
from splitrt.rpc import status
from splitrt.rpc.messages import MESSAGE_FRAMING_BYTES
from splitrt.rpc.rounds import MOST_ENDS, MOST_NODES, PROTOCOL, SESSION_BYTES, Opened, Opening, Round, Verdict
from splitrt.rpc.v1 import speculate_pb2 as pb
from splitrt.rpc.v1 import speculate_pb2_grpc as pb_grpc

Servicer = pb_grpc.SpeculateServicer
NAME: str = pb.DESCRIPTOR.services_by_name["Speculate"].full_name


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
        return Opened(
            context=opened.context,
            max_nodes=min(opened.max_nodes, MOST_NODES),  # more cannot be sent, whatever a server takes
            held=opened.held,
            held_hash=opened.held_hash,
        )
    raise BadFrame("a message must hold an opened or a verdict", reason="malformed")
