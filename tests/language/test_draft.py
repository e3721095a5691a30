from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the torch extra")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from language_pairs import DRAFT, TARGET, VOCABULARY, random_weights  # noqa: E402

from splitrt.language.context import Context  # noqa: E402
from splitrt.language.decoder import Decoder  # noqa: E402
from splitrt.language.draft import ModelDrafter, PromptLookup, chain  # noqa: E402
from splitrt.language.plain import plain_tokens  # noqa: E402
from splitrt.language.rows import paths_of  # noqa: E402
from splitrt.language.sampling import Sampling  # noqa: E402
from splitrt.language.target import verify  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
WEIGHTS = random_weights(TARGET, 0)
MODEL = Decoder(TARGET, WEIGHTS)
SMALL = Decoder(DRAFT, {name: WEIGHTS[name] for name in DRAFT.shapes()})
PREFIX = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20)
SAMPLINGS = [
    Sampling(),
    Sampling(temperature=1.0, seed=3),
    Sampling(temperature=0.7, top_k=20, top_p=0.9, repetition_penalty=1.3, seed=5),
    Sampling(repetition_penalty=1.5),
]


@settings(deadline=None, max_examples=25)
@given(prefix=PREFIX, nodes=st.integers(1, 24), breadth=st.integers(1, 4), sampling=st.sampled_from(SAMPLINGS))
def test_a_tree_has_the_likeliest_paths_whole_and_no_sibling_twice(
    prefix: list[int], nodes: int, breadth: int, sampling: Sampling
) -> None:
    tree = ModelDrafter(SMALL).tree(prefix, sampling, nodes=nodes, breadth=breadth, depth=4)
    assert 1 <= len(tree.ids) <= nodes
    paths = paths_of(tree.parents, len(tree.ids))  # refuses orphans
    assert len(set(zip(tree.parents, tree.ids, strict=True))) == len(tree.ids)
    assert all(0 < one <= 1 for one in tree.confidences)
    assert max(map(len, paths)) <= 4


@settings(deadline=None, max_examples=15)
@given(prefix=PREFIX, sampling=st.sampled_from(SAMPLINGS))
def test_a_trees_trunk_is_the_chain(prefix: list[int], sampling: Sampling) -> None:
    line = chain(ModelDrafter(SMALL), prefix, sampling, 3)
    tree = ModelDrafter(SMALL).tree(prefix, sampling, nodes=99, breadth=1, depth=3)
    assert tree.ids == line.ids
    assert tree.is_chain


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("shape", ["chain", "tree", "lookup"])
def test_what_is_said_is_plain_decoding_to_the_token(sampling: Sampling, shape: str) -> None:
    prompt = [1, 262, 259]
    wanted = [token for token, _ in zip(plain_tokens(MODEL, prompt, sampling), range(60), strict=False)]
    drafter, tokens, context, rounds = ModelDrafter(SMALL), list(prompt), Context(MODEL), 0
    while len(tokens) < len(prompt) + 60:
        if shape == "tree":
            draft = drafter.tree(tokens, sampling, nodes=16, breadth=3, depth=4)
        else:
            draft = chain(drafter if shape == "chain" else PromptLookup(), tokens, sampling, 4)
        logits_TV = context.look(tokens, draft.ids, draft.parents)
        verified = verify(context, logits_TV, tokens, draft.ids, draft.parents, sampling)
        tokens += [*(draft.ids[node] for node in verified.path), verified.token]
        rounds += 1
    assert tokens[3:63] == wanted
    assert rounds < 60 or shape == "lookup"


def test_prompt_lookup_goes_on_where_the_text_went_on_before() -> None:
    lookup = PromptLookup()
    assert chain(lookup, [5, 6, 7, 8, 9, 6, 7], Sampling(), 3).ids == (8, 9, 6)
    assert chain(lookup, [5, 6, 7], Sampling(), 3).ids == ()


def test_a_chain_ends_where_its_tokens_are_no_longer_likely_together() -> None:
    long = chain(ModelDrafter(SMALL), [1, 262], Sampling(), 8)
    product, wanted = long.confidences[0], 1
    for one in long.confidences[1:]:
        product *= one
        if product < 0.2:
            break
        wanted += 1
    assert len(chain(ModelDrafter(SMALL), [1, 262], Sampling(), 8, least_confidence=0.2).ids) == wanted
    assert chain(ModelDrafter(SMALL), [1] * (DRAFT.context + 1), Sampling(), 2).ids == ()
