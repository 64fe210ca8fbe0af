"""What transformers makes of conversations: writes tests/golden/jinja/chat.json.

    python tests/oracle/chat.py        needs transformers

A case is a tokenizer of tests/golden/tokenizers with further special tokens, a template of tests/golden/jinja/templates and
a conversation: the text with the generation prompt, the ids of the conversation without it, and, where the template has
{% generation %}, the mask of assistant tokens. `trained` is written by hand: the texts of the runs of tokens that a
model is to learn, turn by turn, which the engine must find without help from the template."""
import json
import pathlib

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"

TWO = [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello! How are you?"},
       {"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "It is 4."}]
SYSTEM = [{"role": "system", "content": "You are a pirate."}] + TWO
THINK = [{"role": "user", "content": "Think."}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nDone."},
         {"role": "user", "content": "Again."}, {"role": "assistant", "content": "<think>\nonce\n</think>\n\nSo be it."}]
NULLS = [{"role": "user", "content": "Hi", "name": None}, {"role": "assistant", "content": "Yo", "tool_calls": None}]
REASON = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "reasoning": "because"}]
CALL = [{"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "w", "arguments": {"city": "Ulm"}}}]},
        {"role": "tool", "content": "rain"}, {"role": "assistant", "content": "It rains."}]
CALL_MORE = CALL + [{"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Sure."}]
CHAIN = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "<think>\nask\n</think>\n\nLooking",
          "tool_calls": [{"name": "w", "arguments": {"city": "Ulm"}}]},
         {"role": "tool", "content": "rain"}, {"role": "assistant", "content": "<think>\nwet\n</think>\n\nIt rains."},
         {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Sure."}]

IM = ["<|im_start|>", "<|im_end|>"]
CASES = [
    ("qwen2", "chatml", [], "two", TWO, ["Hello! How are you?<|im_end|>", "It is 4.<|im_end|>"]),
    ("qwen2", "chatml", [], "nulls", NULLS, ["Yo<|im_end|>"]),
    ("qwen2", "chatml_generation", [], "system", SYSTEM, None),
    ("qwen2", "qwen2_5", [], "system", SYSTEM, ["Hello! How are you?<|im_end|>", "It is 4.<|im_end|>"]),
    ("qwen2", "qwen2_5", [], "call", CALL, ["<tool_call>\n{\"name\": \"w\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call><|im_end|>", "It rains.<|im_end|>"]),
    ("qwen2", "qwen3", [], "think", THINK, ["Done.<|im_end|>", "<think>\nonce\n</think>\n\nSo be it.<|im_end|>"]),
    ("qwen2", "qwen3", [], "reason", REASON, ["<think>\nbecause\n</think>\n\nA<|im_end|>"]),
    ("qwen2", "qwen3", [], "chain", CHAIN, ["Looking\n<tool_call>\n{\"name\": \"w\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call><|im_end|>",
                                           "It rains.<|im_end|>", "<think>\n\n</think>\n\nSure.<|im_end|>"]),
    ("qwen2", "qwen3", [], "call_more", CALL_MORE, ["<tool_call>\n{\"name\": \"w\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call><|im_end|>", "It rains.<|im_end|>",
                                                   "<think>\n\n</think>\n\nSure.<|im_end|>"]),
    ("qwen2", "phi3", ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], "system", SYSTEM, ["Hello! How are you?<|end|>", "It is 4.<|end|>\n</s>"]),
    ("qwen2", "zephyr", ["<|system|>", "<|user|>", "<|assistant|>", "</s>"], "system", SYSTEM, ["Hello! How are you?</s>", "It is 4.</s>"]),
    ("qwen2", "gemma", ["<start_of_turn>", "<end_of_turn>", "<s>"], "two", TWO, ["Hello! How are you?<end_of_turn>", "It is 4.<end_of_turn>"]),
    ("qwen2", "llama3", ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "system", SYSTEM, ["Hello! How are you?<|eot_id|>", "It is 4.<|eot_id|>"]),
    ("qwen2", "deepseek_r1", ["<|User|>", "<|Assistant|>", "<|end▁of▁sentence|>"], "think", THINK,
     ["\n\nDone.<|end▁of▁sentence|>", "\n\nSo be it.<|end▁of▁sentence|>"]),
    ("llama2", "llama2", [], "system", SYSTEM, ["Hello! How are you? </s>", "It is 4. </s>"]),
    ("llama2", "mistral_v03", ["[INST]", "[/INST]"], "two", TWO, [" Hello! How are you?</s>", " It is 4.</s>"]),
]


def main():
    out = []
    for base, template, specials, name, messages, trained in CASES:
        backend = Tokenizer.from_file(str(GOLDEN / "tokenizers" / f"{base}.json"))
        backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in specials])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
        tokenizer.chat_template = (GOLDEN / "jinja" / "templates" / f"{template}.jinja").read_text()
        generation = "{% generation" in tokenizer.chat_template or "{%- generation" in tokenizer.chat_template
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        encoded = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=generation)
        # bos and eos join the special tokens; ids are given in the order in which they were added
        added = [token.content for _, token in sorted(tokenizer.added_tokens_decoder.items())]
        ids = {token: tokenizer.convert_tokens_to_ids(token) for token in added}
        out.append({"name": f"{template}/{name}", "tokenizer": base, "template": template, "specials": ids, "messages": messages,
                    "text": text, "prompt": prompt, "ids": encoded["input_ids"],
                    "mask": encoded["assistant_masks"] if generation else None, "trained": trained})
    (GOLDEN / "jinja" / "chat.json").write_text(json.dumps(out, ensure_ascii=False, indent=0, separators=(",", ":")).replace(",\n", ",") + "\n")


if __name__ == "__main__":
    main()
