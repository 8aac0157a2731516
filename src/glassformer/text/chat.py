"""Chat templates: how a model was trained to see a conversation, as a jinja2 program that its folder carries.

    [{"role": "user", "content": "Hi"}]  ->  "<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n"

The program comes from outside: it runs in jinja2's sandbox, sees plain data only and can change none of it. What it is
given, and how white space is cut, is what Hugging Face's `apply_chat_template` documents, to which this is equal.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from glassformer.foundation.suggest import did_you_mean


def template_of(config: Mapping[str, Any], name: str | None = None) -> str:
    """The chat template that a tokenizer's config carries; of several with names the `default` one, or `name`.

    Raises:
        ValueError: there is none, or none of that name.
    """
    found = config.get("chat_template")
    if found is None:
        raise ValueError(
            "the tokenizer carries no chat template, neither in tokenizer_config.json nor as chat_template.jinja: "
            "either its model was not trained on conversations, or you have to write the prompt yourself"
        )
    if isinstance(found, str) and name is None:
        return found
    try:
        named = {} if isinstance(found, str) else {each["name"]: each["template"] for each in found}
    except (TypeError, KeyError) as error:
        raise ValueError("chat_template must be a text, or a list of objects with a name and a template") from error
    if (name or "default") not in named:
        raise ValueError(f"there is no chat template {name or 'default'!r}{did_you_mean(name or 'default', named)}")
    return named[name or "default"]


def render(
    template: str, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool, variables: Mapping[str, Any]
) -> str:
    """The text of a conversation.

    Args:
        template: a jinja2 program.
        messages: each with a "role" ("user", "assistant", ...) and mostly a "content"; what else, the template says.
        add_generation_prompt: end where the assistant begins to speak.
        variables: what the template may ask for: `bos_token`, `eos_token`, `tools`, `documents`, ...

    Raises:
        ValueError: the messages are no messages, or the template is damaged or refuses them; it says why.
        ImportError: jinja2 is not installed.
    """
    checked(messages)
    program = compiled(template)
    from jinja2 import TemplateError

    given = plain({"tools": None, "documents": None} | dict(variables))
    conversation = [_message(message) for message in messages]
    try:
        return program.render(messages=conversation, add_generation_prompt=add_generation_prompt, **given)
    except TemplateError as error:
        raise ValueError(f"the chat template refuses the conversation: {error}") from error
    except Exception as error:  # a program of others: whatever it does wrong, it is the template that did
        raise ValueError(f"the chat template failed with {type(error).__name__}: {error}") from error


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """As templates expect it: no content at all where it is null, and thoughts under the name that they look for."""
    out = plain(message)
    if out.get("content", "") is None:
        del out["content"]
    thoughts = next((out[name] for name in ("reasoning_content", "thinking", "reasoning") if out.get(name)), None)
    return out if thoughts is None else {"thinking": thoughts, **out, "reasoning_content": thoughts}


def checked(messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError where this is no conversation."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise ValueError(f"a conversation is a list of messages, not {type(messages).__name__}")
    if not messages:
        raise ValueError("the conversation is empty; give at least one message")
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(f"message {place} is {str(message)[:60]!r}; expected an object with a role and a content")


@lru_cache(maxsize=16)
def compiled(template: str) -> Any:
    """The program in its sandbox. Raises ValueError where jinja2 cannot read it."""
    try:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise ImportError("chat templates need the package 'jinja2': pip install jinja2") from error

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, generation_block()]
    )
    sandbox.filters["tojson"] = to_json  # jinja2's own escapes < and > for web pages
    sandbox.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    try:
        return sandbox.from_string(template)
    except TemplateError as error:
        raise ValueError(f"the chat template is damaged, line {getattr(error, 'lineno', '?')}: {error}") from error


def generation_block() -> type:
    """{% generation %} ... {% endgeneration %} marks what the assistant said, for training; here it is only text."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class GenerationBlock(Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Any) -> str:
            return caller()

    return GenerationBlock


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter `tojson`."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(form: str) -> str:
    """The function `strftime_now`: today, as some templates tell the model."""
    return datetime.now().strftime(form)


def plain(value: Any) -> Any:
    """`value` of numbers, texts, lists and objects alone: nothing with methods that a template could call."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise ValueError(f"a message holds a {type(value).__name__}; expected texts, numbers, lists and objects")
