"""Ctrl-C in a loop over a camera: a real process, a real signal."""

from __future__ import annotations

import signal
import subprocess
import sys

SCRIPT = """
import asyncio, splitrt

async def camera():
    print("waiting", flush=True)
    await asyncio.sleep(60)
    yield None

with splitrt.connect("127.0.0.1:9", bundle="photos", connect_timeout_s=0.05) as client:
    for result in client.stream(camera()):
        pass
"""


def test_a_stream_that_waits_for_its_camera_ends_by_ctrl_c_and_says_nothing_else() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "RuntimeError" not in said
