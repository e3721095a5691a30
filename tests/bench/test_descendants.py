from __future__ import annotations

import os
import socket
import subprocess
import sys

from splitrt.bench import descendants
from splitrt.bench.descendants import command, connected_replicas, replicas, rss_mb

# Its own child listens under a replica's title and says on which port.
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1], "ray::Serve" + "Replica:made-1:Tail"])
"""
CHILD = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_a_grandchild_is_found_by_its_bundle_and_is_connected_when_a_connection_to_its_port_is_ours() -> None:
    words = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        me = os.getpid()
        [found] = replicas(me, "made-1")
        assert "made-1" in command(found)
        assert found not in (me, parent.pid)
        assert replicas(me, "made-10") == []
        assert connected_replicas(me, "made-1") == []
        with socket.create_connection(("127.0.0.1", port)):
            assert connected_replicas(me, "made-1") == [found]
        parent.communicate()
    assert found not in descendants.descendants(me)


def test_memory_is_of_the_process() -> None:
    program = "held = bytearray(b'x') * (64 << 20 if input() else 1); print(len(held), flush=True); input()"
    sizes = []
    for answer in ("", "much"):
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as one:
            assert one.stdin is not None
            assert one.stdout is not None
            one.stdin.write(answer + "\n")
            one.stdout.readline()
            sizes.append(rss_mb(one.pid))
            one.stdin.write("\n")
    assert 50 < sizes[1] - sizes[0] < 80
