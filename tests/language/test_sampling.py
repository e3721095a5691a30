from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.errors import InvalidInput
from splitrt.language.sampling import Sampling, choose, warp

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40).map(lambda one: np.array(one, np.float32))
relaxed = settings(deadline=None)


@relaxed
@given(logits_V=LOGITS, k=st.integers(1, 50), temperature=st.floats(0.1, 5))
def test_top_k_leaves_the_k_likeliest_and_a_law(logits_V: np.ndarray, k: int, temperature: float) -> None:
    log_p_V = warp(logits_V, [], Sampling(temperature=temperature, top_k=k))
    left = log_p_V > -np.inf
    assert left.sum() == min(k, len(logits_V))
    assert logits_V[left].min() >= logits_V[~left].max(initial=-np.inf)
    assert np.exp(log_p_V).sum() == pytest.approx(1)


@relaxed
@given(logits_V=LOGITS, share=st.floats(0.01, 0.999))
def test_top_p_leaves_the_fewest_likeliest_that_make_up_the_share(logits_V: np.ndarray, share: float) -> None:
    full_V = np.exp(warp(logits_V, [], Sampling(temperature=1)))
    left = warp(logits_V, [], Sampling(temperature=1, top_p=share)) > -np.inf
    assert full_V[left].sum() >= share - 1e-9
    assert full_V[left].sum() - full_V[left].min() < share + 1e-9


@relaxed
@given(logits_V=LOGITS, penalty=st.floats(1.01, 5), data=st.data())
def test_the_penalty_makes_tokens_of_the_prefix_less_likely_and_no_others(
    logits_V: np.ndarray, penalty: float, data: st.DataObject
) -> None:
    prefix = data.draw(st.lists(st.integers(0, len(logits_V) - 1), min_size=1))
    sampling = Sampling(temperature=1, repetition_penalty=penalty)
    plain_V, given_V = warp(logits_V, [], sampling), warp(logits_V, prefix, sampling)
    other = next((one for one in range(len(logits_V)) if one not in prefix), None)
    for token in set(prefix):
        if other is not None:
            assert given_V[token] - given_V[other] <= plain_V[token] - plain_V[other] + 1e-9
    same = warp(logits_V, prefix + prefix, sampling)
    assert np.array_equal(given_V, same)


@relaxed
@given(logits_V=LOGITS, seed=st.integers(0, 2**64 - 1))
def test_temperature_zero_takes_the_likeliest_whatever_the_seed(logits_V: np.ndarray, seed: int) -> None:
    assert choose(logits_V, [], Sampling(seed=seed)) == int(logits_V.argmax())


def test_the_token_depends_on_seed_and_position() -> None:
    logits_V = np.zeros(100)
    said = {
        choose(logits_V, [0] * position, Sampling(temperature=1, seed=seed)) for seed in range(9) for position in (1, 2)
    }
    assert len(said) > 12


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"repetition_penalty": 0.0},
        {"seed": 1 << 64},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        Sampling(**settings)  # type: ignore[arg-type]
