"""What is offered: all that was asked for or what there was, never a part."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from splitrt.bundle import Bundle
from splitrt.errors import BundleError
from splitrt.metrics import ServerMetrics
from splitrt.server.catalogue import Catalogue
from splitrt.server.engine import Served


async def test_nothing_is_offered_before_all_of_it_can_be(photos: Bundle, tmp_path: Path) -> None:
    broken = shutil.copytree(photos.folder, tmp_path / "photos-4")
    manifest = broken / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('version = "3"', 'version = "4"', 1))
    opened, looked = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    class Engine:
        @asynccontextmanager
        async def tails(self, name: str) -> AsyncIterator[Served]:
            if name == str(broken):
                await looked.wait()
                raise BundleError("its golden sample disagrees")
            pool: Any = None
            opened.set()
            yield Served(photos, pool, 0.0, lambda: 1)
            ended.append(name)

    engine: Any = Engine()
    async with Catalogue(engine, None) as catalogue:
        offering = asyncio.create_task(catalogue.offer(["photos", str(broken)]))
        await opened.wait()
        await asyncio.sleep(0)
        assert not catalogue.names  # a device that was let in here would lose its tail a moment later
        looked.set()
        with pytest.raises(BundleError):
            await offering
        assert ended == ["photos"]
        await catalogue.offer(["photos"])
        assert catalogue.names == ["photos-3"]


def test_texts_of_two_versions_are_both_counted() -> None:
    engine: Any = None
    catalogue, metrics = Catalogue(engine, None), ServerMetrics()
    for version, sessions in (("1", 3), ("2", 4)):
        manifest = SimpleNamespace(name="tiny", version=version)
        bundle = SimpleNamespace(manifest=manifest, digest=b"")
        target: Any = SimpleNamespace(bundle=bundle, sessions=sessions, ready=1)
        catalogue.targets[version] = target
    catalogue.show(metrics)
    assert metrics.registry.get_sample_value("splitrt_language_sessions", {"bundle": "tiny"}) == 7
