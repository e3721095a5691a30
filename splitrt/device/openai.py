"""An OpenAI-compatible endpoint on the device itself: `/v1/models`, `/v1/completions`, `/v1/chat/completions`.

Behind it is a language client: drafted here, verified there. A stream of deltas cannot take anything back, so only
committed text is sent; while the server does not answer, nothing comes. Who sends `x-splitrt-provisional: true` with a
stream is told what the drafter says meanwhile: chunks then carry a field that clients who do not know it pass over.
Deltas stay the committed text; `provisional` is all that is said behind it, in place of what it was before.

    {"choices": [{"delta": {}}], "splitrt": {"provisional": " and so"}}                     said alone
    {"choices": [{"delta": {"content": " and"}}], "splitrt": {"provisional": " so"}}        the first of it stands
    {"choices": [{"delta": {}}], "splitrt": {"provisional": ""}}                            the rest is taken back
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from splitrt.device.channels import Channels
from splitrt.device.chat import chat_template, read_messages, render
from splitrt.device.events import Confirm, Done, Event, Retract, Token
from splitrt.device.language import LanguageClient
from splitrt.errors import InvalidInput, SplitError

MOST_BODY_BYTES = 1 << 20
PROVISIONAL = "x-splitrt-provisional"
CHAT_TOKENS = 512  # where the caller names no bound
COMPLETION_TOKENS = 16


class Asked(BaseModel):
    """What of a request is understood. What would change the answer and is not understood is refused, not ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str
    prompt: str | list[int] | None = None
    messages: Any = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    n: Literal[1] | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: Literal[False] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logit_bias: dict[str, Any] | None = Field(None, max_length=0)
    suffix: Literal[""] | None = None
    tools: None = None
    response_format: None = None


class Endpoint:
    def __init__(self, client: LanguageClient) -> None:
        self._client = client
        self._name = client.bundle.manifest.name
        self._template, self._special = chat_template(client.bundle)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/completions", self.completions, methods=["POST"]),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )

    async def models(self, _: Request) -> Response:
        entry = {"id": self._name, "object": "model", "created": 0, "owned_by": "splitrt"}
        return JSONResponse({"object": "list", "data": [entry]})

    async def completions(self, request: Request) -> Response:
        return await self._respond(request, is_chat=False)

    async def chat(self, request: Request) -> Response:
        return await self._respond(request, is_chat=True)

    async def _respond(self, request: Request, *, is_chat: bool) -> Response:
        try:
            asked = await _read(request)
            if asked.model not in (self._name, self._client.bundle.name):
                return _error(404, f"model must be {self._name}, got {asked.model[:64]!r}", "model_not_found")
            prompt = self._prompt(asked, is_chat=is_chat)
            tells = asked.stream and request.headers.get(PROVISIONAL, "").strip().lower() == "true"
            answer = _Answer(self._client, prompt, asked, self._name, is_chat=is_chat, tells=tells)
            if asked.stream:
                await answer.begin()  # what is wrong is said with a status of its own, before the stream
                return StreamingResponse(answer.chunks(), media_type="text/event-stream")
            return JSONResponse(await answer.whole())
        except InvalidInput as error:
            return _error(400, str(error), "invalid_request_error")
        except SplitError as error:
            return _error(503, str(error), error.code)
        except ClientDisconnect:
            return Response(status_code=499)

    def _prompt(self, asked: Asked, *, is_chat: bool) -> str | list[int]:
        if is_chat:
            return render(self._template, self._special, read_messages(asked.messages))
        if asked.prompt is None or asked.prompt == []:
            raise InvalidInput("prompt must be a text or a list of tokens")
        return asked.prompt


class _Answer:
    """One generation in OpenAI's words."""

    def __init__(
        self, client: LanguageClient, prompt: str | list[int], asked: Asked, name: str, *, is_chat: bool, tells: bool
    ) -> None:
        """tells: of what is provisional, too."""
        self._asked, self._name, self._is_chat, self._tells = asked, name, is_chat, tells
        self._provisional: list[str] = []  # what each provisional token adds to the text
        self._id = f"{'chatcmpl' if is_chat else 'cmpl'}-{uuid.uuid4().hex[:24]}"
        self._created = int(time.time())
        ids = client.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        self._prompt_tokens = len(ids)
        room = client.bundle.manifest.context - len(ids)
        if room < 1:
            raise InvalidInput(f"a prompt must be below {client.bundle.manifest.context} tokens, got {len(ids)}")
        wanted = asked.max_completion_tokens or asked.max_tokens or (CHAT_TOKENS if is_chat else COMPLETION_TOKENS)
        stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        self._events = client.generate(
            ids,
            max_tokens=min(wanted, room),
            temperature=1.0 if asked.temperature is None else asked.temperature,
            top_p=1.0 if asked.top_p is None else asked.top_p,
            seed=uuid.uuid4().int % (1 << 63) if asked.seed is None else asked.seed % (1 << 63),
            stop=stop,
            offline="verify" if tells else "hold",
        )
        self._first: Any = None

    async def begin(self) -> None:
        self._first = await anext(self._events)

    async def whole(self) -> dict[str, Any]:
        async with aclosing(self._events) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Done):
                    return self._object(event.text, event) | {"usage": self._usage(event)}
        raise AssertionError("a generation ends with Done")

    async def chunks(self) -> AsyncIterator[str]:
        async with aclosing(self._events) as events:  # type: ignore[type-var]
            if self._is_chat:
                yield self._line(self._chunk({"role": "assistant", "content": ""}, None))
            event = self._first
            while True:
                if isinstance(event, Done):
                    break
                if (chunk := self._told(event)) is not None:
                    yield self._line(chunk)
                try:
                    event = await anext(events)
                except SplitError as error:
                    yield self._line({"error": {"message": str(error), "type": error.code}})
                    return
            yield self._line(self._chunk({}, event))
            if (self._asked.stream_options or {}).get("include_usage"):
                yield self._line(self._chunk({}, event) | {"choices": [], "usage": self._usage(event)})
            yield "data: [DONE]\n\n"

    def _told(self, event: Event) -> dict[str, Any] | None:
        """What an event adds to the committed text, and what is provisional behind it; None: nothing new of either."""
        text, before = "", "".join(self._provisional)
        match event:
            case Token(text=piece, provisional=True):
                self._provisional.append(piece)
            case Token(text=piece):
                text = piece
            case Confirm(tokens=tokens):
                text = "".join(self._provisional[:tokens])
                del self._provisional[:tokens]
            case Retract():
                self._provisional.clear()
        after = "".join(self._provisional)
        if not text and after == before:
            return None
        chunk = self._chunk({"content": text} if text else {}, None)
        return chunk | {"splitrt": {"provisional": after}} if self._tells else chunk

    def _object(self, text: str, done: Done) -> dict[str, Any]:
        kind = "chat.completion" if self._is_chat else "text_completion"
        said = {"message": {"role": "assistant", "content": text}} if self._is_chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": _finish(done)}
        return self._frame(kind, choice)

    def _chunk(self, delta: dict[str, str], done: Done | None) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        said: dict[str, Any] = {"delta": delta} if self._is_chat else {"text": delta.get("content", "")}
        finish = None if done is None else _finish(done)
        return self._frame(kind, {"index": 0, **said, "logprobs": None, "finish_reason": finish})

    def _frame(self, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._name, "choices": [choice]}

    def _usage(self, done: Done) -> dict[str, int]:
        said = len(done.tokens)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": said,
            "total_tokens": self._prompt_tokens + said,
        }

    @staticmethod
    def _line(data: dict[str, Any]) -> str:
        return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def _read(request: Request) -> Asked:
    """Raises InvalidInput."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            raise InvalidInput(f"a request must be at most {MOST_BODY_BYTES} bytes")
    try:
        return Asked.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "body"
        raise InvalidInput(f"{place}: {problem['msg']}") from None


def _finish(done: Done) -> str:
    return "length" if done.reason == "length" else "stop"


def _error(status: int, message: str, kind: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": kind}}, status)


async def serve_openai(client: LanguageClient, port: int) -> None:
    """On this machine alone, until interrupted."""
    import uvicorn

    client.channels = Channels(client.config)
    config = uvicorn.Config(Endpoint(client).app, host="127.0.0.1", port=port, log_level="warning")
    try:
        await uvicorn.Server(config).serve()
    finally:
        await client.channels.close()
