"""The same worker behind LitServe: `python -m splitrt.bench.litserving BUNDLE DEADLINE_MS`, where LitServe is.

One worker process, as every server's tail here; batches of what waits, small enough that one fits into the deadline
with room; its own `timeout` at half the deadline, so that what is taken up can still be in time. It takes JSON, so
bytes come in base64.
"""

from __future__ import annotations

import base64
import logging
import socket
import sys

import litserve
from fastapi import Response

from splitrt.bench.peers import HEADER
from splitrt.bundle import find_bundle
from splitrt.codec.payload import Codec
from splitrt.config import ServerConfig
from splitrt.server.loading import load_worker
from splitrt.server.work import Work

MAX_BATCH = 4


class Infer(litserve.LitAPI):  # type: ignore[misc]
    """A request's bytes to the first output's bytes; what is computed in its worker process are batches of them."""

    def __init__(self, bundle: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=0.001, api_path="/infer")
        self._bundle = bundle

    def setup(self, device: str) -> None:
        self.worker = load_worker(find_bundle(self._bundle), ServerConfig())

    def decode_request(self, request: dict[str, str]) -> Work:
        data = base64.b64decode(request["frame"])
        size, width, bits, codec = HEADER.unpack_from(data)
        payload = data[HEADER.size : HEADER.size + size]
        return Work(
            principal="", width=width, bits=bits, codec=Codec(codec), payloads=(payload,), arrived_at=0, deadline_at=0
        )

    def batch(self, inputs: list[Work]) -> list[Work]:
        return inputs

    def predict(self, works: list[Work]) -> list[bytes]:
        return [outcome.outputs[0].tobytes() for outcome in self.worker.run(works)]

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/octet-stream")


def main(bundle: str, deadline_ms: str) -> None:
    logging.disable(logging.CRITICAL)  # a line for every request that timed out
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = litserve.LitServer(
        Infer(bundle), accelerator="cpu", workers_per_device=1, timeout=float(deadline_ms) / 2e3
    )
    print(port, flush=True)
    server.run(host="127.0.0.1", port=port, log_level="critical", generate_client_file=False, num_api_servers=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
