"""The rules leave the target's law as it is; rules that do not are here too, and the same test finds them out.

Shape letters: N draws, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.language.noise import GOLDEN, coin, gumbel
from splitrt.language.verify import Verified, draw, match, reject

Float64 = npt.NDArray[np.float64]
Rule = Callable[[int], list[int]]  # from the number of a draw to the tokens that were said

V, DRAWS, LENGTH = 4, 4_000, 2
LEAST_P = 1e-3
LOGITS = np.random.default_rng(7).normal(0, 1.2, (2, V, V))
FIRST = np.array([0.1, 0.2, 0.3, 0.4])


def law(kind: int, path: tuple[int, ...]) -> Float64:
    """A Markov target (0) and a drafter (1) that is like it but not the same."""
    if path:
        raw_V = np.exp(LOGITS[0, path[-1]] + (0.8 * LOGITS[1, path[-1]] if kind else 0))
    else:
        raw_V = FIRST if kind == 0 else FIRST[::-1] + 0.1
    p_V: Float64 = raw_V / raw_V.sum()
    return p_V


def sequences() -> tuple[list[tuple[int, ...]], Float64]:
    """All texts of the length tested, and the target's probability of each."""
    texts: list[tuple[int, ...]] = [()]
    for _ in range(LENGTH):
        texts = [(*text, token) for text in texts for token in range(V)]
    chances = [np.prod([law(0, text[:place])[text[place]] for place in range(LENGTH)]) for text in texts]
    return texts, np.array(chances)


def p_values(rule: Rule) -> tuple[float, float]:
    """How far the counts of whole texts are from the target's law, by chi-square and by total variation: each as the
    share of chance draws of that law that are as far from it.
    """
    texts, chances = sequences()
    place = {text: index for index, text in enumerate(texts)}
    counts = np.zeros(len(texts))
    for number in range(DRAWS):
        said: list[int] = []
        while len(said) < LENGTH:
            said += rule_from(rule, number, said)
        counts[place[tuple(said[:LENGTH])]] += 1
    chance = np.random.default_rng(0).multinomial(DRAWS, chances, 4_000).astype(np.float64)
    shares = []
    for far in (_chi_square, _variation):
        shares.append(float((far(chance, chances) >= far(counts[None], chances)).mean()))
    return shares[0], shares[1]


def _chi_square(counts: Float64, chances: Float64) -> Float64:
    off: Float64 = ((counts - DRAWS * chances) ** 2 / (DRAWS * chances)).sum(1)
    return off


def _variation(counts: Float64, chances: Float64) -> Float64:
    off: Float64 = 0.5 * np.abs(counts / DRAWS - chances).sum(1)
    return off


def rule_from(rule: Rule, number: int, said: list[int]) -> list[int]:
    PREFIX[:] = said
    return rule(number)


PREFIX: list[int] = []  # of the text that a rule goes on with; set by `rule_from`


def drafted(number: int, shape: str, kind: int = 1) -> tuple[list[int], list[int]]:
    """A chain of two, or a tree: two draws of the first token, two behind the first of them; from the drafter."""
    parents = [-1, 0] if shape == "chain" else [-1, -1, 0, 0]
    ids: list[int] = []
    for node, parent in enumerate(parents):
        above = [ids[parent]] if parent >= 0 else []
        q_V = law(kind, (*PREFIX, *above))
        ids.append(draw(q_V, coin(number, len(PREFIX), 100 + node)))
    return ids, parents


def behind(path: tuple[int, ...], ids: list[int]) -> tuple[int, ...]:
    return (*PREFIX, *(ids[node] for node in path))


def said_by(verified: Verified, ids: list[int]) -> list[int]:
    return [*(ids[node] for node in verified.path), verified.token]


def rejection(shape: str) -> Rule:
    def rule(number: int) -> list[int]:
        ids, parents = drafted(number, shape)
        base = len(PREFIX)

        def q_of(node: int) -> Float64:
            return law(1, (*PREFIX, ids[node])) if node >= 0 else law(1, tuple(PREFIX))

        verified = reject(
            ids,
            parents,
            q_of,
            lambda path: law(0, behind(path, ids)),
            lambda depth, toss: coin(number, base + depth, toss),
        )
        return said_by(verified, ids)

    return rule


def matching(shape: str, *, coupled: bool) -> Rule:
    def rule(number: int) -> list[int]:
        ids, parents = drafted(number, shape)
        if coupled:
            ids = []
            for parent in parents:
                above = (*PREFIX, ids[parent]) if parent >= 0 else tuple(PREFIX)
                taken = [ids[node] for node, other in enumerate(parents[: len(ids)]) if other == parent]
                noisy_V = np.log(law(1, above)) + gumbel(number, len(above), V)
                noisy_V[taken] = -np.inf
                ids.append(int(noisy_V.argmax()))

        def choose(path: tuple[int, ...]) -> int:
            prefix = behind(path, ids)
            return int((np.log(law(0, prefix)) + gumbel(number, len(prefix), V)).argmax())

        return said_by(match(ids, parents, choose), ids)

    return rule


SOUND = {
    "rejection, chain": rejection("chain"),
    "rejection, tree": rejection("tree"),
    "match, chain drawn freely": matching("chain", coupled=False),
    "match, tree drawn freely": matching("tree", coupled=False),
    "match, chain with the target's noise": matching("chain", coupled=True),
    "match, tree with the target's noise, siblings without replacement": matching("tree", coupled=True),
}


@pytest.mark.parametrize("name", SOUND)
def test_texts_have_the_targets_law(name: str) -> None:
    chi, variation = p_values(SOUND[name])
    assert chi > LEAST_P
    assert variation > LEAST_P


# ── rules that are wrong, each in a way that somebody published or could ────────────────────────────


def upside_down(number: int) -> list[int]:
    """Accepts on q/p instead of p/q (as in DSSD's published code)."""
    ids, _ = drafted(number, "chain")
    p_V, q_V = law(0, tuple(PREFIX)), law(1, tuple(PREFIX))
    if coin(number, len(PREFIX), 0) < min(1, q_V[ids[0]] / p_V[ids[0]]):
        return [ids[0]]
    left_V = np.maximum(p_V - q_V, 0)
    return [draw(left_V / left_V.sum(), coin(number, len(PREFIX), 1))]


def no_residual(number: int) -> list[int]:
    """After a refusal draws from p and not from what q did not cover."""
    ids, _ = drafted(number, "chain")
    p_V, q_V = law(0, tuple(PREFIX)), law(1, tuple(PREFIX))
    if coin(number, len(PREFIX), 0) < min(1, p_V[ids[0]] / q_V[ids[0]]):
        return [ids[0]]
    return [draw(p_V, coin(number, len(PREFIX), 1))]


def likeliest_draft(number: int) -> list[int]:
    """Drafts the likeliest token but tests it as if it had been drawn from q."""
    p_V, q_V = law(0, tuple(PREFIX)), law(1, tuple(PREFIX))
    token = int(q_V.argmax())
    if coin(number, len(PREFIX), 0) < min(1, p_V[token] / q_V[token]):
        return [token]
    left_V = np.maximum(p_V - q_V, 0)
    return [draw(left_V / left_V.sum(), coin(number, len(PREFIX), 1))]


def typical(number: int) -> list[int]:
    """Accepts what is likely enough (Medusa's typical acceptance)."""
    ids, _ = drafted(number, "chain")
    p_V = law(0, tuple(PREFIX))
    return [ids[0]] if p_V[ids[0]] > 0.15 else [draw(p_V, coin(number, len(PREFIX), 1))]


def same_noise(number: int) -> list[int]:
    """One noise for all positions."""
    return [int((np.log(law(0, tuple(PREFIX))) + gumbel(number, 0, V)).argmax())]


def same_coin(number: int) -> list[int]:
    """Tests every sibling with the same coin."""
    ids, parents = drafted(number, "tree")
    base = len(PREFIX)

    def q_of(node: int) -> Float64:
        return law(1, (*PREFIX, ids[node])) if node >= 0 else law(1, tuple(PREFIX))

    verified = reject(
        ids, parents, q_of, lambda path: law(0, behind(path, ids)), lambda depth, _: coin(number, base + depth, 0)
    )
    return said_by(verified, ids)


def no_bonus(number: int) -> list[int]:
    """Keeps a draft's second token unseen where the first was accepted."""
    ids, _ = drafted(number, "chain")
    noisy_V = np.log(law(0, tuple(PREFIX))) + gumbel(number, len(PREFIX), V)
    return ids if ids[0] == int(noisy_V.argmax()) else [int(noisy_V.argmax())]


BROKEN = [upside_down, no_residual, likeliest_draft, typical, same_noise, same_coin, no_bonus]


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_same_test_finds_a_broken_rule_out(rule: Rule) -> None:
    chi, variation = p_values(rule)
    assert chi < LEAST_P
    assert variation < LEAST_P


def test_the_second_token_is_independent_of_the_first_where_the_target_says_so() -> None:
    """Noise of neighbouring positions has nothing in common: joint counts of two draws are products."""
    p_V = np.array([0.1, 0.2, 0.3, 0.4])
    joint = np.zeros((V, V))
    for seed in range(DRAWS):
        first, second = ((np.log(p_V) + gumbel(seed, position, V)).argmax() for position in (5, 6))
        joint[first, second] += 1
    chances = np.outer(p_V, p_V).ravel()
    chance = np.random.default_rng(0).multinomial(DRAWS, chances, 4_000).astype(np.float64)
    assert (_chi_square(chance, chances) >= _chi_square(joint.reshape(1, -1), chances)).mean() > LEAST_P


def test_noise_is_gumbels() -> None:
    values = np.sort(np.concatenate([gumbel(3, position, 1_000) for position in range(50)]))
    coins = np.sort([coin(3, position, toss) for position in range(200) for toss in range(20)])
    for sample, law_of in ((values, np.exp(-np.exp(-values))), (coins, coins)):
        distance = np.abs(law_of - np.arange(1, len(sample) + 1) / len(sample)).max()
        assert distance < 1.95 / len(sample) ** 0.5  # Kolmogorov and Smirnov's bound at one in a thousand
    assert 0 < coins[0] < coins[-1] < 1


def test_noise_is_what_it_was_when_it_was_specified() -> None:
    """Integers of SplitMix64: a device and a server of different versions must make the same."""
    state = 0x1234
    mixed = state
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) % 2**64
    seed_state = mixed ^ (mixed >> 31)
    z = (seed_state + 9 * 0xD1342543DE82EF95) % 2**64
    for bits in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = ((z ^ (z >> bits[0])) * bits[1]) % 2**64
    z ^= z >> 31
    z = (z + 2 * GOLDEN) % 2**64
    for bits in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = ((z ^ (z >> bits[0])) * bits[1]) % 2**64
    z ^= z >> 31
    u = ((z >> 11) + 0.5) / 2**53
    assert gumbel(0x1234, 9, 3)[2] == pytest.approx(-np.log(-np.log(u)), abs=1e-12)
    assert not np.array_equal(gumbel(1, 2, 8), gumbel(2, 1, 8))


@settings(deadline=None)
@given(data=st.data())
def test_what_is_accepted_is_a_path_of_the_draft_and_what_the_target_says(data: st.DataObject) -> None:
    nodes = data.draw(st.integers(0, 12))
    parents = [data.draw(st.integers(-1, node - 1)) for node in range(nodes)]
    ids = [data.draw(st.integers(0, V - 1)) for _ in range(nodes)]
    truth = data.draw(st.lists(st.integers(0, V - 1), min_size=nodes + 1, max_size=nodes + 1))
    verified = match(ids, parents, lambda path: truth[len(path)])
    said = said_by(verified, ids)
    assert said == truth[: len(said)]
    assert [parents[node] for node in verified.path] == [-1, *verified.path][: len(verified.path)]
    end = verified.path[-1] if verified.path else -1
    assert not any(parent == end and token == said[-1] for parent, token in zip(parents, ids, strict=True))
