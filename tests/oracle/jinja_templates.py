"""Renders the templates of tests/golden/jinja/templates and a list of small cases with Python's jinja2, set up as
transformers sets it up for chat templates, and writes tests/golden/jinja/{models,cases}.json.

    python tests/oracle/jinja_templates.py        needs jinja2 >= 3.1 (3.1.6 made the committed files)

A case is {name, template or file, variables, output, spans} or {..., "error": true} where Python raises. Spans are the
byte ranges of {% generation %} blocks. Time stands still at NOW, in UTC."""
import datetime
import json
import pathlib
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jinja_cases import CASES

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden" / "jinja"
NOW = 1721997296  # 2024-07-26 12:34:56


class Generation(Extension):
    tags = {"generation"}
    blocks, spans = None, None

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    def _run(self, caller):
        text = caller()
        if Generation.blocks is not None:
            start = len("".join(Generation.blocks).encode())
            Generation.spans.append([start, start + len(text.encode())])
        return text


class Dict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, attrs = args[0], dict(*args[1:], **kwargs)
        for name in attrs:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, attrs)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None).strftime(format)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, strftime_now=strftime_now, dict=Dict(), namespace=Namespace)
    return env


def render(template, variables):
    try:
        compiled = environment().from_string(template)
        Generation.blocks, Generation.spans = [], []
        for block in compiled.generate(**variables):
            Generation.blocks.append(block)
        return {"output": "".join(Generation.blocks), "spans": Generation.spans}
    except Exception as error:  # every error of Python's is an error of ours
        return {"error": f"{type(error).__name__}: {error}"[:200]}


TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Get the weather in a city <now>.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "Name, e.g. \"Zürich\""},
                                         "unit": {"type": "string", "enum": ["c", "f"]},
                                         "days": {"type": "array", "items": {"type": "integer"}}},
        "required": ["city"]}, "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "add", "description": "Adds & returns", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]}}},
]


def call(name, arguments, number="abcdefghi"):
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "user": [{"role": "user", "content": "  Hello,\nworld!  "}],
    "two_turns": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Hello! "},
                  {"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "4"}],
    "system": [{"role": "system", "content": "You are a pirate. /no_think"}, {"role": "user", "content": "Ahoy"},
               {"role": "assistant", "content": "Arr 🏴‍☠️"}],
    "thinking": [{"role": "user", "content": "Think."}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nDone."},
                 {"role": "user", "content": "Again."},
                 {"role": "assistant", "content": "<think>\nonce more\n</think>\n\nDone again."}],
    "reasoning": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "reasoning_content": "because\n"}],
    "tools": [{"role": "system", "content": "Use tools."}, {"role": "user", "content": "Weather in Zürich?"},
              {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": "Zürich", "unit": "c"})]},
              {"role": "tool", "content": "{\"t\": 21.5}", "tool_call_id": "abcdefghi"},
              {"role": "assistant", "content": "It is 21.5°C."}, {"role": "user", "content": "Thanks <3"}],
    "parallel_tools": [{"role": "user", "content": "1+2 and weather"},
                       {"role": "assistant", "content": "Let me see", "tool_calls": [call("add", {"a": 1, "b": 2.0}),
                                                                                  call("get_weather", {"city": "X"}, "123456789")]},
                       {"role": "tool", "content": "3", "tool_call_id": "abcdefghi"},
                       {"role": "tool", "content": "rain", "tool_call_id": "123456789"}],
    "wrong_order": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "parts": [{"role": "system", "content": [{"type": "text", "text": "S"}]},
              {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is this? "}]}],
    "empty": [],
}


def models():
    cases = []
    for path in sorted((GOLDEN / "templates").glob("*.jinja")):
        template = path.read_bytes().decode()
        for name, messages in CONVERSATIONS.items():
            for extra_name, extra in (("", {"add_generation_prompt": False}), ("+prompt", {"add_generation_prompt": True}),
                                      ("+tools", {"add_generation_prompt": True, "tools": TOOLS}),
                                      ("+more", {"add_generation_prompt": True, "enable_thinking": False, "controls": {"length": "long"},
                                                 "documents": [{"title": "T", "text": "D 1"}, {"title": "U", "text": "D 2"}],
                                                 "builtin_tools": ["brave_search", "code_interpreter"]})):
                if extra_name == "+tools" and "tool" not in name and name != "user":
                    continue
                if extra_name == "+more" and name not in ("user", "system", "tools"):
                    continue
                extra = {"bos_token": "<s>", "eos_token": "</s>", **extra}
                if "llama3_1" not in path.name or extra_name != "":
                    extra = {"tools": None, **extra}
                cases.append({"name": f"{path.stem}/{name}{extra_name}", "file": path.name, "messages": name, "extra": extra,
                              **render(template, {"messages": messages, **extra})})
    return {"now": NOW, "conversations": CONVERSATIONS, "cases": cases}


def small():
    out = []
    for number, case in enumerate(CASES):
        template, variables = case if isinstance(case, tuple) else (case, {})
        out.append({"name": f"{number}: {template[:60]}", "template": template, "variables": variables, **render(template, variables)})
    return {"now": NOW, "cases": out}


def write(name, value):
    (GOLDEN / name).write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    write("models.json", models())
    write("cases.json", small())
    if "-v" in sys.argv:
        for case in json.loads((GOLDEN / "cases.json").read_text())["cases"]:
            print(case["name"], "->", case.get("output", case.get("error")))
