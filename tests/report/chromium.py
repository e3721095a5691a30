"""A headless Chromium on two pipes: pages measured and watched for requests and console errors, nothing listening."""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
MEASURE = """JSON.stringify([...document.querySelectorAll('figure svg')].map(one => {
  const box = one.getBoundingClientRect();
  return {width: box.width, height: box.height, shapes: one.querySelectorAll('circle, path, rect').length};
}))"""


@dataclass(frozen=True, slots=True)
class Seen:
    svgs: list[dict[str, float]]
    requests: list[str]
    complaints: list[str]  # console errors, exceptions, policy violations
    body: str


class Browser:
    """Speaks the DevTools protocol: JSON messages that end in a NUL byte."""

    def __init__(self, say: int, hear: int) -> None:
        self._say, self._hear, self._numbers = say, hear, itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._say, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._next()
            if heard.get("id") == number:
                assert "error" not in heard, heard
                result: dict[str, Any] = heard["result"]
                return result
            self.events.append(heard)

    def see(self, page: Path) -> Seen:
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        svgs = json.loads(self._value(MEASURE))
        body = self._value("document.body.innerText")
        requests = [one["params"]["request"]["url"] for one in self._of("Network.requestWillBeSent")]
        complaints = [json.dumps(one["params"]) for one in self._of("Log.entryAdded", "Runtime.exceptionThrown")]
        complaints += [json.dumps(one["params"]) for one in self._of("Runtime.consoleAPICalled")]
        return Seen(svgs, requests, complaints, body)

    def _value(self, expression: str) -> str:
        return str(self.ask("Runtime.evaluate", expression=expression)["result"]["value"])

    def _of(self, *methods: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("method") in methods]

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + 20
        while b"\0" not in self._rest:
            readable, _, _ = select.select([self._hear], [], [], max(0.0, until - time.monotonic()))
            part = os.read(self._hear, 1 << 16) if readable else b""
            if not part:
                raise TimeoutError("Chromium must answer within 20 s")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        return heard


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """Chromium reads what it is asked from descriptor 3 and answers on 4."""
    to_read, to_write = os.pipe(), os.pipe()
    script = f'exec "$@" 3<&{to_read[0]} 4>&{to_write[1]}'
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", program, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(to_read[0], to_write[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_read[0])
    os.close(to_write[1])
    try:
        opened = Browser(to_read[1], to_write[0])
        yield opened
        opened._session = None
        opened.ask("Browser.close")
        process.wait(10)
    finally:
        os.close(to_read[1])
        os.close(to_write[0])
        if process.poll() is None:
            process.kill()
            process.wait()
