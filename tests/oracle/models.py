"""Golden models: tiny random models of every family and what transformers computes with them.

Usage: python tests/oracle/models.py [NAME ...]        (needs torch and transformers; writes tests/golden/models/)

Each folder NAME holds what save_pretrained wrote (config.json, *.safetensors) and golden.safetensors:
    ids, positions i32 [n], segments i32 [s+1], types i32 [n] (models with token types)
    features [n, hidden]   last hidden states
    causal and masked language models: logits [n, vocab], targets i32 [n] (-1: ignored), weights [n],
        loss = sum_i weights_i * cross_entropy(logits_i, targets_i)
    encoders: pooled [s, hidden]; classifiers: outputs [s, labels]; cotangent of the same shape,
        loss = sum(cotangent * pooled or outputs)
    grad.NAME              d loss / d parameter, for all parameters that take part
All numbers are float32 on one CPU thread, computed one sequence at a time without padding (eager attention).
"""

import json
import os
import shutil
import sys

import torch
import transformers as tf
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "golden", "models")
VOCAB = 96
LENGTHS = [7, 1, 13, 5]  # tokens of the packed sequences

LLAMA = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
BERT = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=40)


def rope(theta, **more):
    return dict(rope_type=more.pop("rope_type", "default"), rope_theta=theta, **more)


# name: (class, config, kind, extra)
#   kind: "lm", "pooler" (cls + dense + tanh), "mean", "cls", "classify"
#   legacy: config.json in the layout of earlier releases (rope_theta and rope_scaling at the top)
MODELS = {
    "llama": (tf.LlamaForCausalLM, tf.LlamaConfig(**LLAMA, num_key_value_heads=4), "lm", {}),
    "llama_linear": (tf.LlamaForCausalLM, tf.LlamaConfig(
        **LLAMA, num_key_value_heads=1, attention_bias=True, mlp_bias=True,
        rope_parameters=rope(1000.0, rope_type="linear", factor=2.5)), "lm", {"legacy": True}),
    "llama3": (tf.LlamaForCausalLM, tf.LlamaConfig(
        **LLAMA, num_key_value_heads=2, rope_parameters=rope(
            500.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=32)), "lm", {"legacy": True}),
    "smollm_bf16_sharded": (tf.LlamaForCausalLM, tf.LlamaConfig(
        **LLAMA, num_key_value_heads=2, tie_word_embeddings=True), "lm", {"dtype": torch.bfloat16, "shard": "16KB"}),
    "mistral": (tf.MistralForCausalLM, tf.MistralConfig(
        **LLAMA, num_key_value_heads=2, head_dim=12, sliding_window=4), "lm", {}),
    "qwen2": (tf.Qwen2ForCausalLM, tf.Qwen2Config(**LLAMA, num_key_value_heads=2, tie_word_embeddings=True), "lm", {}),
    "qwen2_window": (tf.Qwen2ForCausalLM, tf.Qwen2Config(
        **LLAMA, num_key_value_heads=2, use_sliding_window=True, sliding_window=3, max_window_layers=1), "lm", {}),
    "qwen3": (tf.Qwen3ForCausalLM, tf.Qwen3Config(
        **LLAMA, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True), "lm", {}),
    "llama_classify": (tf.LlamaForSequenceClassification, tf.LlamaConfig(
        **LLAMA, num_key_value_heads=2, num_labels=3), "classify", {}),
    "gpt2": (tf.GPT2LMHeadModel, tf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=40, bos_token_id=1, eos_token_id=2), "lm", {}),
    "gpt2_classify": (tf.GPT2ForSequenceClassification, tf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=40, n_inner=48, bos_token_id=1, eos_token_id=2,
        scale_attn_by_inverse_layer_idx=True, num_labels=1), "classify", {}),
    "bert": (tf.BertModel, tf.BertConfig(**BERT), "pooler", {}),
    "minilm": (tf.BertModel, tf.BertConfig(**BERT), "mean", {"pooling": True}),
    "bert_mlm": (tf.BertForMaskedLM, tf.BertConfig(**BERT), "lm", {}),
    "bert_classify": (tf.BertForSequenceClassification, tf.BertConfig(**BERT, num_labels=3), "classify", {}),
    "roberta": (tf.RobertaModel, tf.RobertaConfig(**BERT, type_vocab_size=1), "cls", {"pooler": False}),
    "roberta_mlm": (tf.RobertaForMaskedLM, tf.RobertaConfig(**BERT, type_vocab_size=1), "lm", {}),
    "roberta_classify": (tf.RobertaForSequenceClassification, tf.RobertaConfig(
        **BERT, type_vocab_size=1, num_labels=2), "classify", {}),
    "distilbert": (tf.DistilBertModel, tf.DistilBertConfig(
        vocab_size=VOCAB, dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=40), "mean", {}),
    "distilbert_classify": (tf.DistilBertForSequenceClassification, tf.DistilBertConfig(
        vocab_size=VOCAB, dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=40, num_labels=2),
        "classify", {}),
}


def randomise(model, generator):
    """Every parameter away from its neutral start, so that a bias or norm left out is seen."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * (0.8 if "embed" in name or "wte" in name or "wpe" in name else 0.25))
            elif "norm" in name.lower() or "ln_" in name:
                parameter.copy_((0.1 * noise) + (1.0 if name.endswith("weight") else 0.0))
            else:
                parameter.copy_(noise * 0.2)


def legacy_config(folder):
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = parameters
    config["torch_dtype"] = config.pop("dtype", "float32")
    with open(path, "w") as file:
        json.dump(config, file, indent=2, sort_keys=True)
        file.write("\n")


def encode(model, kind, ids, types):
    """One sequence: (features, logits or pooled or outputs)."""
    more = {"token_type_ids": types} if types is not None else {}
    base = model.base_model if hasattr(model, "base_model") else model
    features = base(input_ids=ids, **more).last_hidden_state
    if kind == "lm" or kind == "classify":
        return features[0], model(input_ids=ids, **more).logits[0]
    if kind == "pooler":
        return features[0], model(input_ids=ids, **more).pooler_output[0]
    return features[0], features[0].mean(0) if kind == "mean" else features[0, 0]


def make(name):
    cls, config, kind, extra = MODELS[name]
    generator = torch.Generator().manual_seed(sum(name.encode()) * 7919)
    config._attn_implementation = "eager"
    config.initializer_range = 0.02
    model = cls(config, **({"add_pooling_layer": False} if extra.get("pooler") is False else {}))
    model.set_attn_implementation("eager")
    randomise(model, generator)
    model.eval()
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if "dtype" in extra:
        model.to(extra["dtype"])
        model.save_pretrained(folder, max_shard_size=extra["shard"])
        # Read again: casting back would leave the rotary frequencies rounded to bf16.
        model = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    else:
        model.save_pretrained(folder)
    if extra.get("legacy"):
        legacy_config(folder)
    if extra.get("pooling"):
        os.makedirs(os.path.join(folder, "1_Pooling"))
        with open(os.path.join(folder, "1_Pooling", "config.json"), "w") as file:
            json.dump({"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
                       "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}, file, indent=2)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)

    lengths = LENGTHS
    n = sum(lengths)
    bounds = [0]
    for length in lengths:
        bounds.append(bounds[-1] + length)
    ids = torch.randint(3, VOCAB, (n,), generator=generator)
    typed = getattr(config, "type_vocab_size", 0) > 1
    types = torch.randint(0, 2, (n,), generator=generator) if typed else None
    out = {"ids": ids.int(), "segments": torch.tensor(bounds, dtype=torch.int32),
           "positions": torch.cat([torch.arange(length) for length in lengths]).int()}
    if typed:
        out["types"] = types.int()
    if kind == "lm":
        targets = torch.randint(0, VOCAB, (n,), generator=generator)
        targets[torch.rand(n, generator=generator) < 0.2] = -1
        weights = torch.rand(n, generator=generator)
        out["targets"], out["weights"] = targets.int(), weights

    features, results = [], []
    for begin, end in zip(bounds, bounds[1:]):
        hidden, result = encode(model, kind, ids[None, begin:end], types[None, begin:end] if typed else None)
        features.append(hidden)
        results.append(result)
    out["features"] = torch.cat(features)
    if kind == "lm":
        logits = torch.cat(results)
        rows = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-1, reduction="none")
        loss = (rows * weights).sum()
        out["logits"] = logits
    else:
        result = torch.stack(results)
        cotangent = torch.randn(result.shape, generator=generator)
        loss = (result * cotangent).sum()
        out["outputs" if kind == "classify" else "pooled"] = result
        out["cotangent"] = cotangent
    loss.backward()
    out["loss"] = loss
    for parameter_name, parameter in model.named_parameters():
        if parameter.grad is not None:
            out["grad." + parameter_name] = parameter.grad
    save_file({key: value.detach().contiguous().clone() for key, value in out.items()},
              os.path.join(folder, "golden.safetensors"), metadata={"kind": kind})
    size = sum(os.path.getsize(os.path.join(root, file)) for root, _, files in os.walk(folder) for file in files)
    print(f"{name}: loss {loss.item():.6f}, {size} bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for model_name in sys.argv[1:] or MODELS:
        make(model_name)
