"""The `splitrt` command: one module a subcommand, imported for its signature only; work is imported when it runs.

Errors of ours become one line: exit 2 for what the user gave, 1 for a run that failed.
"""

from __future__ import annotations

import sys

import typer

from splitrt.cli.bench import bench
from splitrt.cli.config import config
from splitrt.cli.demo import demo
from splitrt.cli.doctor import doctor
from splitrt.cli.generate import generate
from splitrt.cli.infer import infer
from splitrt.cli.models import models
from splitrt.cli.netem import netem
from splitrt.cli.pair import pair
from splitrt.cli.plan import plan
from splitrt.cli.report import report
from splitrt.cli.serve import serve
from splitrt.cli.split import split
from splitrt.cli.stream import stream
from splitrt.cli.top import top
from splitrt.cli.train import train
from splitrt.errors import ConfigError, InvalidInput, ModelNotFound, SplitError

app = typer.Typer(
    name="splitrt",
    help="One model in two places: the head on a device, the tail on a server, a measured link between.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (demo, serve, infer, stream, generate, netem, plan, split, pair, train, bench, top, report, doctor):
    app.command()(command)
app.add_typer(models, name="models")
app.add_typer(config, name="config")

BAD_USAGE = (ConfigError, InvalidInput, ModelNotFound)


def main() -> None:
    """The entry point."""
    try:
        app()
    except SplitError as error:
        print(f"splitrt: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, BAD_USAGE) else 1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
