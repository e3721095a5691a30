"""From a conversation to a prompt: the chat template of the model's folder, in a sandbox, or a plain transcript.

A template is a program of whoever made the bundle; it runs as `transformers` runs it, without access to anything but
the messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splitrt.errors import BundleError, ConfigError, InvalidInput, SplitError
from splitrt.language.bundle import LanguageBundle
from splitrt.language.folder import read_json

Message = dict[str, str]
MOST_MESSAGES = 4_096


def chat_template(bundle: LanguageBundle) -> tuple[str | None, dict[str, str]]:
    """The template of the drafter's folder (the target's never leaves the server), and the special tokens it names."""
    file = bundle.folder / "draft" / "tokenizer_config.json"
    settings = read_json(file) if file.is_file() else {}
    template = settings.get("chat_template")
    names = ("bos_token", "eos_token")
    given = {name: settings.get(name) for name in names}
    special = {name: str(one["content"] if isinstance(one, dict) else one) for name, one in given.items() if one}
    return (template if isinstance(template, str) else None), special


def render(template: str | None, special: dict[str, str], messages: Sequence[Message]) -> str:
    """Raises InvalidInput where the template refuses the messages, BundleError where it is none."""
    if template is None:
        said = "".join(f"{one['role']}: {one['content']}\n" for one in messages)
        return f"{said}assistant:"
    try:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ConfigError("chat templates need jinja2: pip install 'splitrt[llm]'") from None

    def refuse(words: object) -> None:
        raise InvalidInput(f"the chat template refuses these messages: {str(words)[:200]}")

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    try:
        rendered = environment.from_string(template).render(messages=messages, add_generation_prompt=True, **special)
    except SplitError:
        raise
    except Exception as error:  # whatever an expression of the template raises: no common root
        raise BundleError(f"the chat template must render: {str(error)[:200] or type(error).__name__}") from error
    return str(rendered)


def read_messages(given: Any) -> list[Message]:
    """Text messages alone. Raises InvalidInput."""
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_MESSAGES:
        raise InvalidInput(f"messages must be a list of 1 to {MOST_MESSAGES}")
    messages = []
    for one in given:
        content = one.get("content") if isinstance(one, dict) else None
        if isinstance(content, list) and all(_is_text(part) for part in content):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str) or not isinstance(one.get("role"), str):
            raise InvalidInput("a message must have a role and a content of text")
        messages.append({"role": one["role"], "content": content})
    return messages


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
