"""The client of a language bundle: prompts in, events out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

from splitrt.config import ClientConfig, read_settings
from splitrt.device.channels import Channels
from splitrt.device.events import Done, Event
from splitrt.device.exposure import exposed
from splitrt.device.fetch_language import language_for
from splitrt.device.generation import Generation
from splitrt.device.grpc_verifier import GrpcVerifierLink
from splitrt.device.pace import Pace
from splitrt.device.wish import Offline, Wish
from splitrt.errors import BundleError, ConfigError, SplitError
from splitrt.language.bundle import LanguageBundle
from splitrt.language.draft import Drafter, ModelDrafter, PromptLookup
from splitrt.language.moa import MoaDrafter
from splitrt.language.sampling import Sampling
from splitrt.language.text import Stop
from splitrt.metrics import TextMetrics
from splitrt.policy.backoff import pace_of
from splitrt.policy.modes import Mode

DRAFTERS = ("model", "moa", "lookup")


class LanguageClient:
    """Use `connect_language`, or build one from a bundle. `drafter` makes one for each text."""

    def __init__(
        self, bundle: LanguageBundle, config: ClientConfig, drafter: str | Callable[[], Drafter] = "model"
    ) -> None:
        """Raises BundleError where the drafter's half is not here, ConfigError on an unknown drafter's name."""
        self.bundle, self.config = bundle, config
        self.metrics = TextMetrics(bundle.manifest.name)
        self.pace = Pace()
        self.channels: Channels | None = None  # shared by its texts, by who closes them
        self.tokenizer = bundle.tokenizer()
        model = bundle.model("draft")
        self.vocabulary = model.config.vocabulary
        if self.vocabulary < self.tokenizer.vocabulary:
            raise BundleError(
                f"the drafter's vocabulary must hold the tokenizer's {self.tokenizer.vocabulary}, got {self.vocabulary}"
            )
        if isinstance(drafter, str) and drafter not in DRAFTERS:
            raise ConfigError(f"drafter must be one of {', '.join(DRAFTERS)}, got {drafter!r}")
        if not isinstance(drafter, str):
            self._drafter: Callable[[], Drafter] = drafter
        elif drafter == "moa":
            self._drafter = partial(MoaDrafter, *bundle.moa())
        else:
            self._drafter = PromptLookup if drafter == "lookup" else partial(ModelDrafter, model)

    async def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: Iterable[str] = (),
        offline: Offline = "verify",
        mode: Mode | Literal["auto"] = "auto",
        draft_tokens: int | None = None,
        in_flight: int | None = None,
        branches: int = 1,
        patience_s: float | None = None,
    ) -> AsyncIterator[Event]:
        """Token, Confirm, Retract and Link as they come, Done at the end.

        The text is what plain decoding of the target says to this prompt with this seed, whatever is drafted and
        whatever the link does. While the server does not answer within `patience_s` (learnt where None) the drafter
        goes on alone; `offline` says what becomes of its words: `verify` shows them as provisional and takes back what
        the target would not have said, `hold` does not show them, `keep` leaves them in the text.

        mode: `split` drafts here and verifies there, `stream` and `server` let the server go on alone (plainly, or
        with its own copy of the drafter); `auto` takes what is expected to be fastest, by what was measured.
        draft_tokens: of a draft; None: as long as it pays. in_flight: 2 sends the next round before the verdict on the
        one under way, as if that will be accepted whole; None: where it pays. branches: above 1, drafts are trees.

        Raises InvalidInput on settings that cannot be and prompts that do not fit the context.
        """
        wish = Wish(
            prompt=tuple(self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt),
            vocabulary=self.vocabulary,
            sampling=Sampling(
                temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty, seed=seed
            ),
            stop=Stop(max_tokens=max_tokens, ends=frozenset(self.bundle.manifest.ends), strings=tuple(stop)),
            offline=offline,
            mode=mode,
            draft_tokens=draft_tokens,
            in_flight=in_flight,
            branches=branches,
            patience_s=patience_s,
        )
        generation = Generation(
            self.bundle,
            self.tokenizer,
            self._drafter(),
            wish,
            lambda opening: GrpcVerifierLink(
                self.config, opening, self.channels, pace=partial(pace_of, self.pace.estimate)
            ),
            self.config.connect_timeout_s,
            self.pace,
        )
        reason = "cancelled"
        try:
            async for event in generation.events():
                if isinstance(event, Done):
                    reason = event.reason
                yield event
        except SplitError as error:
            reason = error.code
            raise
        finally:
            self.metrics.ended(generation.statistics, reason)


@asynccontextmanager
async def connect_language(
    servers: str | Iterable[str] | None = None,
    *,
    bundle: str | None = None,
    config: ClientConfig | None = None,
    drafter: str | Callable[[], Drafter] = "model",
    **settings: Any,
) -> AsyncIterator[LanguageClient]:
    """A client for a server (HOST:PORT, or several to try in turn) and a language bundle, whose drafter's half is
    fetched from the server by digest where it is not on this device.
    """
    if isinstance(servers, str):
        servers = servers.split(",")
    if config is None:
        flags = {"servers": tuple(servers) if servers else None, "bundle": bundle, **settings}
        config = read_settings(ClientConfig, "client", flags=flags)
    elif servers or bundle or settings:
        raise ConfigError("give either config or servers, bundle and settings, not both")
    client = LanguageClient(await language_for(config), config, drafter)
    client.channels = Channels(config)
    try:
        async with exposed(config, client.metrics.registry):
            yield client
    finally:
        await client.channels.close()
