"""A drafter that sees states: without them a small decoder, with them what was trained, whatever order they come in."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from language_pairs import MOA, MOA_DRAFT, TARGET, random_weights, save_pair  # noqa: E402

from splitrt.errors import BundleError, InvalidInput  # noqa: E402
from splitrt.language.decoder import Decoder  # noqa: E402
from splitrt.language.moa import MoaDrafter  # noqa: E402
from splitrt.language.moa_config import unpack  # noqa: E402
from splitrt.language.sampling import Sampling  # noqa: E402
from splitrt.language.states import StateMaker, pack  # noqa: E402
from splitrt.train.mixture import Mixture, Thinker  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
IDS = [1, *[(7 * place + place * place) % TARGET.vocabulary for place in range(59)]]


def mixture(seed: int = 0) -> Mixture:
    torch.manual_seed(seed)
    made = Mixture(MOA, random_weights(MOA_DRAFT, 3))
    with torch.no_grad():
        for name in ("states/k/weight", "states/v/weight"):
            made.device[name] *= 10  # so that states matter
    return made.eval()


def target_read(ids: list[int]) -> tuple[Decoder, object]:
    target = Decoder(TARGET, random_weights(TARGET, 0))
    cache = target.cache()
    target.read(ids, cache)
    return target, cache


def made_states(trained: Mixture, start: int, end: int) -> bytes:
    target, cache = target_read(IDS)
    return StateMaker(MOA, trained.weights(trained.server), target).make(cache, start, end)  # type: ignore[arg-type]


def drafter(trained: Mixture) -> MoaDrafter:
    return MoaDrafter(MOA, trained.weights(trained.device))


def test_without_states_it_is_the_decoder_that_it_began_as() -> None:
    decoder, moa = Decoder(MOA_DRAFT, random_weights(MOA_DRAFT, 3)), drafter(mixture())
    wanted_TV = decoder.read(IDS, decoder.cache())
    for tokens in (40, 41, 60, 12):  # ahead, and back
        torch.testing.assert_close(moa.look(IDS[:tokens]), wanted_TV[tokens - 1], rtol=0, atol=1e-3)


def test_what_is_served_computes_what_was_trained() -> None:
    trained, verified = mixture(), 40
    thinker = Thinker(TARGET)
    thinker.take(random_weights(TARGET, 0))
    moa = drafter(trained)
    with torch.no_grad():
        _, cached_BTLC = thinker.think(torch.tensor([IDS]))
        (logits_TV,) = trained(torch.tensor([IDS]), cached_BTLC, torch.full((1, len(IDS)), verified))
        (unstated_TV,) = trained(torch.tensor([IDS]), cached_BTLC, torch.zeros(1, len(IDS)))
    moa.hear(verified, made_states(trained, verified - MOA.window, verified))
    for tokens in (41, 44, 60):
        torch.testing.assert_close(moa.look(IDS[:tokens]), logits_TV[tokens - 1], rtol=0, atol=0.3)  # int8 between them
        assert float((logits_TV - unstated_TV)[tokens - 1].abs().max()) > 1


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 59), st.integers(1, 16)), min_size=1, max_size=8))
def test_states_may_come_twice_late_and_with_gaps(heard: list[tuple[int, int]]) -> None:
    """What counts is the last that came: states up to there, as far back as they were told without a gap."""
    trained = mixture()
    moa, known = drafter(trained), set[int]()
    for end, count in heard:
        start = max(0, end - count)
        before = moa.stated
        if end > start:
            moa.hear(end, made_states(trained, start, end))
        assert moa.stated == max(before, end)
        known |= set(range(max(start, before), end)) if end > before else set()
    once = drafter(trained)
    for place in sorted(known):
        once.hear(place + 1, made_states(trained, place, place + 1))
    torch.testing.assert_close(moa.look(IDS), once.look(IDS), rtol=0, atol=1e-3)


def test_a_packed_state_is_near_and_what_cannot_be_one_is_refused() -> None:
    state_TC = torch.randn(5, MOA.state, generator=torch.Generator().manual_seed(1))
    packed = pack(state_TC)
    assert len(packed) == 5 * MOA.state_bytes
    assert float((unpack(packed, MOA) - state_TC).abs().max()) <= float(state_TC.abs().max()) / 127
    for wrong in (packed[:-1], packed * MOA.window, packed[:-2] + b"\xff\x7f", packed[:-2] + b"\x00\x7c"):
        with pytest.raises(InvalidInput, match="state"):
            unpack(wrong, MOA)
    with pytest.raises(InvalidInput, match="verified"):
        drafter(mixture()).hear(3, packed)


def test_it_draws_with_the_noise_of_the_target_and_ends_with_its_context() -> None:
    moa = drafter(mixture())
    seeded = [moa.step(IDS[:20], Sampling(temperature=1.0, seed=seed)) for seed in range(20)]
    assert len({step[0] for step in seeded if step}) > 1
    assert moa.step([1] * (MOA.context + 1), Sampling()) is None


def test_a_bundle_whose_states_are_of_another_target_is_refused(tmp_path: Path) -> None:
    bundle = save_pair(tmp_path, moa=True)
    assert bundle.has_moa
    assert [file for file in bundle.head_files() if "/" in file] == [
        "draft/config.json", "draft/model.safetensors", "moa/config.json", "moa/model.safetensors",
    ]  # fmt: skip
    with pytest.raises(BundleError, match="must be of a target's"):
        bundle.state_maker(bundle.model("draft"))
