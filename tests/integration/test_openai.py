"""The endpoint on the device, asked by the real `openai` client; behind it a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the torch extra")
openai = pytest.importorskip("openai", reason="needs the dev extra")
uvicorn = pytest.importorskip("uvicorn", reason="needs the llm extra")

from language_pairs import save_pair  # noqa: E402

from splitrt.config import ClientConfig, ServerConfig  # noqa: E402
from splitrt.device.chat import chat_template, read_messages, render  # noqa: E402
from splitrt.device.language import LanguageClient  # noqa: E402
from splitrt.device.openai import Endpoint  # noqa: E402
from splitrt.errors import BundleError, InvalidInput  # noqa: E402
from splitrt.language.bundle import LanguageBundle  # noqa: E402
from splitrt.language.plain import plain_tokens  # noqa: E402
from splitrt.language.sampling import Sampling  # noqa: E402
from splitrt.language.text import Stop, Text  # noqa: E402
from splitrt.netem import Netem  # noqa: E402
from splitrt.netem.shape import Shape  # noqa: E402
from splitrt.server.serve import serve  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
MESSAGES = [{"role": "user", "content": "the cat"}]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LanguageBundle:
    return save_pair(tmp_path_factory.mktemp("pair"))


def plainly(bundle: LanguageBundle, prompt: str, sampling: Sampling, tokens: int, stop: tuple[str, ...] = ()) -> Text:
    tokenizer = bundle.tokenizer()
    ids = tokenizer.encode(prompt)
    text = Text(tokenizer, ids, Stop(max_tokens=tokens, ends=frozenset(bundle.manifest.ends), strings=stop))
    for token in plain_tokens(bundle.model("target"), ids, sampling):
        text.push(token)
        if text.reason is not None:
            break
    return text


@asynccontextmanager
async def asking(bundle: LanguageBundle) -> AsyncIterator[Any]:
    """An openai client of an endpoint of a client of a server."""
    config = ServerConfig(listen="127.0.0.1:0", bundles=(str(bundle.folder),), drain_grace_s=0.1)
    async with serve(config) as server, endpoint(bundle, server.address) as client:
        yield client


@asynccontextmanager
async def endpoint(bundle: LanguageBundle, address: str) -> AsyncIterator[Any]:
    app = Endpoint(LanguageClient(bundle, ClientConfig(servers=(address,), connect_timeout_s=0.5))).app
    web = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    serving = asyncio.create_task(web.serve())
    while not web.started:
        await asyncio.sleep(0.01)
    port = web.servers[0].sockets[0].getsockname()[1]
    try:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as one:
            yield one
    finally:
        web.should_exit = True
        await serving


@pytest.mark.parametrize("is_chat", [False, True])
async def test_who_asks_for_provisional_words_is_told_them_and_what_becomes_of_them(
    is_chat: bool, bundle: LanguageBundle
) -> None:
    prompt = render(None, {}, MESSAGES) if is_chat else "the sun"
    wanted = plainly(bundle, prompt, Sampling(temperature=0.8, seed=5), 40)
    settings: dict[str, Any] = {"model": "tiny", "max_tokens": 40, "temperature": 0.8, "seed": 5, "stream": True}
    settings |= {"extra_headers": {"x-splitrt-provisional": "true"}}
    settings |= {"messages": MESSAGES} if is_chat else {"prompt": prompt}
    config = ServerConfig(listen="127.0.0.1:0", bundles=(str(bundle.folder),), drain_grace_s=0.1)
    async with serve(config) as server, Netem(to=server.address, shape=Shape(rtt_ms=2)) as link:
        async with endpoint(bundle, link.address) as client:
            asked = client.chat.completions if is_chat else client.completions
            text, tails = "", []
            async for chunk in await asked.create(**settings):
                for choice in chunk.choices:
                    text += (choice.delta.content if is_chat else choice.text) or ""
                if (told := getattr(chunk, "splitrt", None)) is not None:
                    if told["provisional"]:
                        tails.append(told["provisional"])
                        link.resume()
                    elif text and not tails:
                        link.stall()
            assert text == wanted.shown
            assert tails


async def test_who_does_not_ask_sees_no_field_of_ours(bundle: LanguageBundle) -> None:
    async with asking(bundle) as client:
        chunks = await client.completions.create(model="tiny", prompt="the sun", max_tokens=8, stream=True)
        fields = {name async for chunk in chunks for name in chunk.model_dump()}
        assert "splitrt" not in fields


async def test_a_completion_is_plain_decoding_whole_and_streamed(bundle: LanguageBundle) -> None:
    wanted = plainly(bundle, "the sun", Sampling(temperature=0.8, seed=5), 24)
    settings: dict[str, Any] = {
        "model": "tiny", "prompt": "the sun", "max_tokens": 24, "temperature": 0.8, "seed": 5,
    }  # fmt: skip
    async with asking(bundle) as client:
        assert [one.id async for one in client.models.list()] == ["tiny"]
        whole = await client.completions.create(**settings)
        assert whole.choices[0].text == wanted.shown
        assert whole.choices[0].finish_reason == ("length" if wanted.reason == "length" else "stop")
        assert whole.usage.completion_tokens == len(wanted.tokens)
        text, usage = "", None
        options = {"include_usage": True}
        async for chunk in await client.completions.create(**settings, stream=True, stream_options=options):
            text += "".join(choice.text for choice in chunk.choices)
            usage = chunk.usage or usage
        assert text == wanted.shown
        assert usage is not None
        assert usage.total_tokens == whole.usage.total_tokens


async def test_a_chat_is_answered_and_stops_where_it_is_told(bundle: LanguageBundle) -> None:
    prompt = "user: the cat\nassistant:"
    free = plainly(bundle, prompt, Sampling(), 30).shown
    stop = free[8:10]
    wanted = plainly(bundle, prompt, Sampling(), 30, (stop,))
    settings: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 30, "temperature": 0, "stop": stop}
    async with asking(bundle) as client:
        whole = await client.chat.completions.create(**settings)
        assert whole.choices[0].message.content == wanted.shown
        assert whole.choices[0].finish_reason == "stop"
        pieces = [chunk.choices[0] async for chunk in await client.chat.completions.create(**settings, stream=True)]
        assert "".join(piece.delta.content or "" for piece in pieces) == wanted.shown
        assert pieces[-1].finish_reason == "stop"


async def test_what_cannot_be_answered_is_refused_in_words_and_the_endpoint_goes_on(bundle: LanguageBundle) -> None:
    async with asking(bundle) as client:
        for settings, kind, words in (
            ({"model": "gpt"}, openai.NotFoundError, "model must be tiny"),
            ({"n": 2}, openai.BadRequestError, "n: "),
            ({"logprobs": True}, openai.BadRequestError, "logprobs"),
            ({"logit_bias": {"5": 100}}, openai.BadRequestError, "logit_bias"),
            ({"temperature": -1}, openai.BadRequestError, "temperature must be"),
            ({"temperature": -1, "stream": True}, openai.BadRequestError, "temperature must be"),
            ({"messages": []}, openai.BadRequestError, "messages must be"),
            ({"messages": [{"role": "user", "content": "x" * 500}]}, openai.BadRequestError, "prompt must be below"),
            ({"messages": [{"role": "user", "content": "x" * (2 << 20)}]}, openai.BadRequestError, "at most"),
        ):
            with pytest.raises(kind, match=words):
                await client.chat.completions.create(**{"model": "tiny", "messages": MESSAGES, **settings})
        answer = await client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=3)
        assert answer.usage.completion_tokens == 3


async def test_a_server_that_is_not_there_is_a_503(bundle: LanguageBundle) -> None:
    from starlette.testclient import TestClient

    away = LanguageClient(bundle, ClientConfig(servers=("127.0.0.1:1",), connect_timeout_s=0.2))
    ask = {"model": "tiny", "prompt": "the", "max_tokens": 3}
    answer = await asyncio.to_thread(TestClient(Endpoint(away).app).post, "/v1/completions", json=ask)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "link_lost"


def test_the_folders_chat_template_makes_the_prompt_and_reaches_nothing_else(
    bundle: LanguageBundle, tmp_path: Path
) -> None:
    assert chat_template(bundle) == (None, {})
    template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    said = render(template, {"bos_token": "<s>"}, read_messages(MESSAGES))
    assert said == "<s>[user]the cat[assistant]"
    with pytest.raises(InvalidInput, match="only users"):
        render("{{ raise_exception('only users') }}", {}, read_messages(MESSAGES))
    for hostile in ("{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{% for %}"):
        with pytest.raises(BundleError, match="must render"):
            render(hostile, {}, read_messages(MESSAGES))
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert read_messages(parts)[0]["content"] == "ab"
    for wrong in (None, [], [{"role": "user"}], [{"content": "x"}], [{"role": "user", "content": [{"type": "image"}]}]):
        with pytest.raises(InvalidInput):
            read_messages(wrong)
    folder = tmp_path / "draft"
    folder.mkdir()
    settings = {"chat_template": template, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    read = chat_template(LanguageBundle(tmp_path, bundle.manifest, bundle.digest))
    assert read == (template, {"bos_token": "<s>", "eos_token": "</s>"})


def test_whatever_a_template_raises_is_said_of_the_template() -> None:
    for hostile in ("{{ 1 + 'a' }}", "{{ 1 // 0 }}", "{% for i in range(10**9) %}x{% endfor %}"):
        with pytest.raises(BundleError, match="must render"):
            render(hostile, {}, read_messages(MESSAGES))
    with pytest.raises(InvalidInput, match="refuses these messages: 5"):
        render("{{ raise_exception(5) }}", {}, read_messages(MESSAGES))
