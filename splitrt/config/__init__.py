"""Settings of both sides: one TOML file, `SPLITRT_*` over it, flags over that; each value knows where it came from."""

from splitrt.config.change import Change, changes, refuse_restarts
from splitrt.config.origin import (
    ENV_PREFIX,
    Read,
    child_environment,
    data_folder,
    problems_of,
    ray_is_authenticated,
    read_settings,
    read_with_origins,
    toml_or_text,
)
from splitrt.config.tables import TABLES, ClientConfig, ServerConfig, Settings

__all__ = [
    "ENV_PREFIX",
    "TABLES",
    "Change",
    "ClientConfig",
    "Read",
    "ServerConfig",
    "Settings",
    "changes",
    "child_environment",
    "data_folder",
    "problems_of",
    "ray_is_authenticated",
    "read_settings",
    "read_with_origins",
    "refuse_restarts",
    "toml_or_text",
]
