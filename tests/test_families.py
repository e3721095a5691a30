from __future__ import annotations

from types import ModuleType

import pytest

pytest.importorskip("torch")

from splitrt import families
from splitrt.bundle import Bundle
from splitrt.errors import ConfigError

pytestmark = pytest.mark.torch


BUILT_IN = (
    "darknet",
    "edgenext",
    "fastestdet",
    "fastvit",
    "mnasnet",
    "mobilenet",
    "mobilenetv2",
    "mobilenetv3",
    "mobilenetv4",
    "mobileone",
    "repvit",
    "resnet",
)


def test_every_built_in_family_is_found() -> None:
    assert set(BUILT_IN) <= set(families.names())


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_name_means_one_module_on_each_side(name: str) -> None:
    head, tail = families.head_module(name), families.tail_module(name)
    assert head.__name__ == f"head_models.{name}"
    assert tail.__name__ == f"tail_models.{name}"
    assert callable(head.build)
    assert callable(tail.build)
    assert hasattr(head, "pretrained") == hasattr(tail, "pretrained")


def test_the_built_in_bundle_names_a_family_that_is_installed(photos: Bundle) -> None:
    assert photos.manifest.family in families.names()


@pytest.mark.parametrize("find", [families.head_module, families.tail_module])
@pytest.mark.parametrize(("name", "meant"), [("mobilnet", "mobilenet"), ("resnet20", "resnet"), ("dark", "darknet")])
def test_a_near_miss_is_answered_with_the_name_that_was_meant(find: type[ModuleType], name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"got '{name}'; did you mean '{meant}'"):
        find(name)


@pytest.mark.parametrize("name", ["os", "head_models.resnet", "../resnet", ""])
def test_a_module_path_is_no_family(name: str) -> None:
    with pytest.raises(ConfigError, match=f"family must be one of {', '.join(families.names())}, got"):
        families.head_module(name)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("resnet", ("resnet", {})),
        ("resnet:classes=10", ("resnet", {"classes": 10})),
        ("resnet:classes=10,depth=20", ("resnet", {"classes": 10, "depth": 20})),
        ("mobilenetv3:size=small", ("mobilenetv3", {"size": "small"})),
    ],
)
def test_a_model_is_read_as_it_is_written(text: str, wanted: tuple[str, dict[str, int | str]]) -> None:
    assert families.parse(text) == wanted


@pytest.mark.parametrize("text", ["resnet:classes", "resnet:classes=", "resnet:classes=a/b", "resnet:a b=1"])
def test_a_model_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="name=value"):
        families.parse(text)
