"""Chat templates: rendered as `transformers` renders them, in a sandbox, refused with a reason."""

import json
import sys

import pytest

from glassformer.text import BPETokenizer, load_tokenizer
from glassformer.text.chat import render, template_of

pytest.importorskip("jinja2")

# In the manner of published ones, written anew.
TEMPLATES = {
    "ChatML": """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    "Llama 3": """{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system, messages = messages[0].content | trim, messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + strftime_now("%d %b %Y") + "\\n\\n" }}
{{- system + "<|eot_id|>" }}
{%- if tools is not none %}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {{- message.tool_calls[0].function.arguments | tojson }}
    {%- else %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}""",
    "Mistral": """{{ bos_token }}{% for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('roles must alternate: user, assistant, user') }}
{%- endif %}
{%- if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}
{%- else %}{% generation %}{{ message.content + eos_token }}{% endgeneration %}{% endif %}
{%- endfor %}""",
    "Qwen": """{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] if message.role == 'user' %}{%- set ns.last = loop.index0 %}{% break %}{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {{- '<|im_start|>' + message.role + '\\n' + content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>\\n' }}
    {%- if message.reasoning_content is defined %}{{- '[' + message.reasoning_content + ']' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}{{ ns.last }}""",
    "Gemma": """{{ bos_token }}
{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
  {% for message in messages %}
    {% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start_of_turn>' + role + '\\n' + (message['content'] or '') | trim + '<end_of_turn>\\n' }}
  {% endfor %}
{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}""",
}
CHATS = {
    "one": [{"role": "user", "content": " Hi <there> & é\n"}],
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "three": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>x</think>\n\nHello", "thinking": "hm"},
        {"role": "user", "content": "漢字"},
    ],
    "tool": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "f", "arguments": {"é": [1, "<"]}}}],
        },
    ],
}
VARIABLES = [{}, {"tools": [{"type": "function", "function": {"name": "é"}}]}, {"enable_thinking": False}]
USER = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("chat")
    for name, template in TEMPLATES.items():
        BPETokenizer.train("hello hello", 259, special_tokens=["<s>", "</s>"]).save(root / name)
        (root / name / "chat_template.jinja").write_text(template)
    return root


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_rendered_as_transformers_renders_them(folders, name, chat):
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folders / name), load_tokenizer(folders / name)
    for prompt in (True, False):
        for variables in VARIABLES:
            options = dict(add_generation_prompt=prompt, **variables)
            try:
                expected = theirs.apply_chat_template(CHATS[chat], tokenize=False, **options)
            except Exception:
                with pytest.raises(ValueError, match="the chat template refuses the conversation"):
                    ours.apply_chat_template(CHATS[chat], **options)
                continue
            assert ours.apply_chat_template(CHATS[chat], **options) == expected


def test_the_beginning_is_not_doubled(folders):
    ours = load_tokenizer(folders / "Llama 3")
    ids = ours.encode(ours.apply_chat_template(USER), allow_special=True)
    assert ids.count(ours.special["bos"]) == 1
    assert ids[0] == ours.special["bos"]


def test_a_template_is_kept_when_its_tokenizer_is_saved(folders, tmp_path):
    for name, template in TEMPLATES.items():
        load_tokenizer(folders / name).save(tmp_path / name)
        assert template_of(load_tokenizer(tmp_path / name).config) == template
        assert "chat_template" in json.loads((tmp_path / name / "tokenizer_config.json").read_text())


def test_of_several_templates_the_default_one_is_taken_or_the_one_that_is_named():
    config = {"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]}
    assert template_of(config) == "a"
    assert template_of(config, "tool_use") == "b"
    with pytest.raises(ValueError, match=r"no chat template 'tool_uze' \(did you mean 'tool_use'"):
        template_of(config, "tool_uze")
    with pytest.raises(ValueError, match="list of objects with a name and a template"):
        template_of({"chat_template": [1]})
    with pytest.raises(ValueError, match="carries no chat template"):
        template_of({})


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{% for %}", "the chat template is damaged, line 1: Expected an expression"),
        ("{{ messages.append(1) }}", "'append' of 'list' object is unsafe"),
        ("{{ messages.__class__.__mro__ }}", "'__class__' of 'list' object is unsafe"),
        ("{{ 'a'.__class__.__base__.__subclasses__() }}", "unsafe"),
        ("{{ 1 / 0 }}", "failed with ZeroDivisionError"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ raise_exception('no ' + messages[0].role) }}", "refuses the conversation: no user"),
        ("{% include 'other' %}", "the chat template"),
    ],
)
def test_a_bad_template_is_refused_with_its_reason(template, fault):
    with pytest.raises(ValueError, match="the chat template") as caught:
        render(template, USER, True, {})
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "the conversation is empty"),
        ("Hi", "a conversation is a list of messages, not str"),
        ({"role": "user"}, "a conversation is a list of messages, not dict"),
        (["Hi"], "message 0 is 'Hi'; expected an object with a role"),
        ([*USER, {"content": "Hi"}], "message 1 is"),
        ([{"role": 1, "content": "Hi"}], "message 0 is"),
        ([{"role": "user", "content": object()}], "a message holds a object; expected texts"),
    ],
)
def test_what_is_no_conversation_is_named(messages, fault):
    with pytest.raises(ValueError, match="message") as caught:
        render("", messages, True, {})
    assert fault in str(caught.value)


def test_without_jinja2_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match="pip install jinja2"):
        render("never compiled before", USER, True, {})
