"""`splitrt doctor --init-tls`: the certificates, keys and tokens of a deployment, as files and as settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from splitrt.certificates import Authority
from splitrt.errors import ConfigError

LOCAL = ("localhost", "127.0.0.1", "::1")  # for health checks beside the server
RESERVED = ("authority", "server")  # names of the other files
PORT = 7070


def make_papers(folder: Path, names: Sequence[str], devices: Sequence[str], days: int) -> None:
    """A new authority, a server's pair, a pair and a token for each device, and TOML for both sides.

    names: host names and addresses under which devices reach the server; this machine's own are added.
    Every file is for its owner only. Raises ConfigError, before anything is written, where one of them is
    there already or a name is none. What is printed holds no token: it may end in a log.
    """
    from secrets import token_urlsafe

    for name in devices:
        if name in RESERVED or list(devices).count(name) > 1:
            raise ConfigError(f"--device must be a name of its own, got {name!r}")
    authority = Authority(days)
    pairs = {"authority": authority.pair, "server": authority.server([*names, *LOCAL])}
    pairs |= {name: authority.device(name) for name in devices}
    folder = folder.absolute()
    tokens = {name: token_urlsafe(32) for name in devices}
    contents = {key: text.encode() for key, text in _settings(folder, names, tokens).items()}
    for name, pair in pairs.items():
        contents |= {f"{name}.pem": pair.certificate_pem, f"{name}.key": pair.key_pem}
    _write_new(folder, contents)
    print(f"made in {folder}, valid for {days} days: {', '.join(contents)}")
    for file, text in _settings(folder, names, dict.fromkeys(devices, "in the file")).items():
        command = "serve photos" if file == "server.toml" else "stream SOURCE"
        print(f"\n# splitrt {command} --config {folder / file}\n{text}", end="")
    print("\nkeep authority.key on neither machine: who holds it can pass for both")


def _settings(folder: Path, names: Sequence[str], tokens: Mapping[str, str]) -> dict[str, str]:
    """TOML of each side, by file name."""
    server = names[0] if names else LOCAL[0]
    texts = {"server.toml": _server_toml(folder, tokens)}
    return texts | {f"{name}.toml": _device_toml(folder, name, server, token) for name, token in tokens.items()}


def _write_new(folder: Path, contents: Mapping[str, bytes]) -> None:
    there = sorted(name for name in contents if (folder / name).is_symlink() or (folder / name).exists())
    if there:
        raise ConfigError(f"--init-tls overwrites nothing, and {folder} holds {', '.join(there)}: give another folder")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in contents.items():
            # Private from its first moment: a mode set afterwards would come too late.
            opened = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "wb") as file:
                file.write(content)
    except OSError as error:
        raise ConfigError(f"--init-tls must be a folder that can be written to, {folder}: {error.strerror}") from error


def _server_toml(folder: Path, tokens: Mapping[str, str]) -> str:
    lines = [
        "[server]",
        f'listen = "0.0.0.0:{PORT}"',
        f"tls_cert = {_quoted(folder / 'server.pem')}",
        f"tls_key = {_quoted(folder / 'server.key')}",
        f"client_ca = {_quoted(folder / 'authority.pem')}",
        "",
        "[server.tokens]",
        *(f"{_quoted(name)} = {_quoted(token)}" for name, token in tokens.items()),
    ]
    return "\n".join(lines) + "\n"


def _device_toml(folder: Path, name: str, server: str, token: str) -> str:
    host = f"[{server}]" if ":" in server else server
    lines = [
        "[client]",
        f"servers = [{_quoted(f'{host}:{PORT}')}]",
        f"tls_ca = {_quoted(folder / 'authority.pem')}",
        f"tls_cert = {_quoted(folder / f'{name}.pem')}",
        f"tls_key = {_quoted(folder / f'{name}.key')}",
        f"token = {_quoted(token)}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(value: object) -> str:
    """A basic string of TOML; JSON's escapes are a part of its own."""
    return json.dumps(str(value), ensure_ascii=False)
