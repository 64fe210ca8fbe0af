"""Golden adapters: folders that PEFT wrote for the tiny models of tests/golden/models, and what PEFT computes with them.

Usage: python tests/oracle/peft_adapters.py [NAME ...]        (needs torch, transformers and peft; writes tests/golden/adapters/)

Each folder NAME holds adapter_config.json and adapter_model.safetensors as save_pretrained wrote them, and golden.safetensors:
    logits [n, vocab] or outputs [s, labels] of the adapted model for the ids of the base model's golden.safetensors,
    merged: the same after merge_and_unload,
with the base model's folder name in its metadata ("base").

With --check FOLDER...: loads adapters that crank wrote (FOLDER/<name>, BUILD/tests/adapters after the tests model.adapter and model.adapter_made) back into PEFT
and compares with the golden outputs, and those that crank made (FOLDER/made_<method>) with crank's own logits beside them.
"""

import os
import shutil
import sys

import peft
import torch
import transformers as tf
from peft.tuners.lora import preprocess_loraga
from safetensors import safe_open
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "golden", "models")
OUT = os.path.join(HERE, "..", "golden", "adapters")

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# name: (base folder, class, LoraConfig arguments or a config, dtype of the adapter's tensors)
ADAPTERS = {
    "llama_lora": ("llama", tf.AutoModelForCausalLM, dict(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.1, task_type="CAUSAL_LM",
        rank_pattern={"layers.1.self_attn.q_proj": 2, ".*down_proj": 3}, alpha_pattern={"v_proj": 6}), torch.float32),
    "llama_regex": ("llama3", tf.AutoModelForCausalLM, dict(
        r=3, lora_alpha=5, target_modules=r"model\.layers\.1\..*(k_proj|gate_proj)", use_rslora=True,
        init_lora_weights="gaussian"), torch.float16),
    "llama_layers": ("llama_linear", tf.AutoModelForCausalLM, dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "o_proj", "up_proj"], exclude_modules=["o_proj"], layers_to_transform=[1], bias="lora_only",
        lora_bias=True), torch.float32),
    "llama_dora": ("llama", tf.AutoModelForCausalLM, dict(
        r=4, lora_alpha=8, target_modules=["k_proj", "up_proj"], use_dora=True), torch.float32),
    "llama_embedding": ("llama", tf.AutoModelForCausalLM, dict(
        r=4, lora_alpha=8, target_modules=["embed_tokens", "q_proj"]), torch.float32),
    "llama_embedding_dora": ("llama", tf.AutoModelForCausalLM, dict(
        r=2, lora_alpha=8, target_modules=["embed_tokens"], use_dora=True), torch.float32),
    "gpt2_lora": ("gpt2", tf.AutoModelForCausalLM, dict(
        r=4, lora_alpha=8, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, bias="all"), torch.bfloat16),
    "gpt2_dora": ("gpt2", tf.AutoModelForCausalLM, dict(
        r=4, lora_alpha=8, target_modules=["attn.c_proj", "c_fc"], fan_in_fan_out=True, use_dora=True), torch.float32),
    "gpt2_default": ("gpt2", tf.AutoModelForCausalLM, dict(r=8, fan_in_fan_out=True), torch.float32),
    "bert_classify": ("bert_classify", tf.AutoModelForSequenceClassification, dict(
        r=4, lora_alpha=8, target_modules=["query", "value"], task_type="SEQ_CLS"), torch.float32),
    "roberta_classify": ("roberta_classify", tf.AutoModelForSequenceClassification, dict(
        r=4, lora_alpha=8, target_modules=["query", "intermediate.dense"], modules_to_save=["classifier"]), torch.float32),
    # r does not divide the inputs of RandLoRA and MiSS: the last block is partly used
    "llama_randlora": ("llama", tf.AutoModelForCausalLM, peft.RandLoraConfig(
        r=5, randlora_alpha=5, target_modules=["q_proj", "up_proj", "down_proj"], projection_prng_key=3), torch.float32),
    "llama_miss": ("llama", tf.AutoModelForCausalLM, peft.MissConfig(r=5, target_modules=["q_proj", "up_proj", "down_proj"]), torch.float32),
    "llama_miss_mini": ("llama", tf.AutoModelForCausalLM, peft.MissConfig(
        r=6, mini_r=8, init_weights="mini", target_modules=["q_proj", "up_proj", "down_proj"]), torch.float32),
    "llama_bat": ("llama", tf.AutoModelForCausalLM, peft.MissConfig(
        r=8, init_weights="bat", target_modules=["q_proj", "up_proj", "down_proj"]), torch.float32),
    "llama_eva": ("llama", tf.AutoModelForCausalLM, dict(
        r=4, lora_alpha=8, target_modules=ALL, init_lora_weights="eva", eva_config=peft.EvaConfig(rho=2.0, tau=0.5)), torch.float32),
    # changes the base weight: saved as a plain pair of twice the rank, which belongs to the model as it was
    "llama_lora_ga": ("llama", tf.AutoModelForCausalLM, dict(
        r=4, lora_alpha=8, target_modules=ALL, init_lora_weights="lora_ga", lora_ga_config=peft.LoraGAConfig()), torch.float32),
}


def base_model(name):
    folder, cls = ADAPTERS[name][:2]
    return cls.from_pretrained(os.path.join(MODELS, folder), dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def outputs(model, folder):
    """One sequence at a time, as tests/oracle/models.py does."""
    data = load_file(os.path.join(MODELS, folder, "golden.safetensors"))
    bounds = data["segments"].tolist()
    rows = []
    for begin, end in zip(bounds, bounds[1:]):
        more = {"token_type_ids": data["types"][None, begin:end].long()} if "types" in data else {}
        rows.append(model(input_ids=data["ids"][None, begin:end].long(), **more).logits[0])
    return ("outputs", torch.stack(rows)) if "outputs" in data else ("logits", torch.cat(rows))


def random_rows(count, seed):
    """Batches of 12 rows of 12 tokens, where each token follows from the one before it, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    def row():
        ids = [int(torch.randint(0, 96, (1,), generator=generator))]
        for _ in range(11):
            ids.append((ids[-1] * 3 + 1 + (int(torch.randint(0, 4, (1,), generator=generator)) == 0)) % 96)
        return ids
    return [torch.tensor([row() for _ in range(12)]) for _ in range(count)]


def wrap(base, config):
    """The adapted model; starts that look at data see eight random batches."""
    batches = random_rows(8, 2)
    init = getattr(config, "init_lora_weights", None)
    if init == "lora_ga":
        def step():
            for ids in batches:
                base(input_ids=ids, labels=ids).loss.backward()
        preprocess_loraga(base, config, step)
    model = peft.get_peft_model(base, config)
    if init == "eva":
        peft.initialize_lora_eva_weights(model, [{"input_ids": b, "attention_mask": torch.ones_like(b), "labels": b} for b in batches],
                                         show_progress_bar=False)
    return model


def make(name):
    folder, _, options, dtype = ADAPTERS[name]
    generator = torch.Generator().manual_seed(sum(name.encode()) * 7919)
    torch.manual_seed(0)
    config = peft.LoraConfig(**options) if isinstance(options, dict) else options
    model = wrap(base_model(name), config)
    changes_base = getattr(config, "init_lora_weights", None) == "lora_ga"
    before = os.path.join(OUT, name + "_start")
    if changes_base:
        model.save_pretrained(before)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if "magnitude" in key:
                noise = parameter * (1 + 0.1 * noise)
            elif changes_base:
                noise = parameter + 0.1 * noise
            elif "lora_" in key and not (name == "llama_eva" and "lora_A" in key):
                noise = noise * 0.3
            else:
                noise = parameter + 0.3 * noise
            parameter.copy_(noise.to(dtype))
    model.eval()
    target = os.path.join(OUT, name)
    shutil.rmtree(target, ignore_errors=True)
    if changes_base:
        model.save_pretrained(target, path_initial_model_for_weight_conversion=before)
        shutil.rmtree(before)
    else:
        model.save_pretrained(target, save_embedding_layers="auto" if "embedding" in name else False)
    os.remove(os.path.join(target, "README.md"))
    config = os.path.join(target, "adapter_config.json")
    with open(config) as file:
        text = file.read()
    with open(config, "w") as file:
        file.write(text.replace(os.path.join(MODELS, folder), "models/" + folder))
    path = os.path.join(target, "adapter_model.safetensors")
    if dtype != torch.float32:
        save_file({key: value.to(dtype) for key, value in load_file(path).items()}, path, metadata={"format": "pt"})
    what, adapted = outputs(model, folder)
    _, merged = outputs(model.merge_and_unload(), folder)
    save_file({what: adapted.contiguous(), "merged": merged.contiguous()}, os.path.join(target, "golden.safetensors"),
              metadata={"base": folder})
    print(name, *(f"{key} {list(value.shape)}" for key, value in load_file(path).items()), sep="\n  ")


class Core(torch.nn.Module):
    """As in the authors' LoRA-XS: lora_B(core(lora_A(x)))."""
    def __init__(self, up, core):
        super().__init__()
        self.up, self.core = up, core

    def forward(self, x):
        return self.up(self.core(x))


def make_core():
    """A LoRA-XS adapter as its authors' code saves it: PEFT's pair with a linear map r x r, "<module>_lora_latent_mapping.weight", between."""
    generator = torch.Generator().manual_seed(5)
    name = "llama_lora_xs"
    base = tf.AutoModelForCausalLM.from_pretrained(os.path.join(MODELS, "llama"), dtype=torch.float32, attn_implementation="eager").eval()
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"])).eval()
    tensors = {}
    for key, module in model.named_modules():
        if not key.endswith("_proj"):
            continue
        if not hasattr(module, "lora_A"):
            continue
        a, b = module.lora_A["default"], module.lora_B["default"]
        with torch.no_grad():
            a.weight.copy_(torch.randn(a.weight.shape, generator=generator) * 0.3)
            b.weight.copy_(torch.randn(b.weight.shape, generator=generator) * 0.3)
        core = torch.nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            core.weight.copy_(torch.randn(4, 4, generator=generator))
        module.lora_B["default"] = Core(b, core)
        tensors[key + ".lora_A.weight"] = a.weight.detach().clone()
        tensors[key + ".lora_B.weight"] = b.weight.detach().clone()
        tensors[key + "_lora_latent_mapping.weight"] = core.weight.detach().clone()
    target = os.path.join(OUT, name)
    os.makedirs(target, exist_ok=True)
    with open(os.path.join(target, "adapter_config.json"), "w") as file:
        file.write('{"peft_type": "LORA", "r": 4, "lora_alpha": 6, "lora_dropout": 0.0, "target_modules": ["q_proj", "down_proj"], "bias": "none", "use_rslora": false}\n')
    save_file(tensors, os.path.join(target, "adapter_model.safetensors"), metadata={"format": "pt"})
    what, adapted = outputs(model, "llama")
    save_file({what: adapted.contiguous()}, os.path.join(target, "golden.safetensors"), metadata={"base": "llama"})
    print(name, list(tensors)[:3])


def check(root):
    """What crank wrote gives the golden outputs in PEFT, with every key taken."""
    for name in ADAPTERS:
        target = os.path.join(root, name)
        if not os.path.isdir(target):
            continue
        model = base_model(name)
        wrapped = peft.PeftModel.from_pretrained(model, target).eval()
        ours, theirs = load_file(os.path.join(target, "adapter_model.safetensors")), load_file(
            os.path.join(OUT, name, "adapter_model.safetensors"))
        what, adapted = outputs(wrapped, ADAPTERS[name][0])
        golden = load_file(os.path.join(OUT, name, "golden.safetensors"))[what]
        error = ((adapted - golden).norm() / golden.norm()).item()
        with safe_open(os.path.join(target, "adapter_model.safetensors"), "pt") as file:
            format_key = (file.metadata() or {}).get("format")
        print(f"{name}: error {error:.2e}, keys only here {sorted(set(ours) - set(theirs))}, "
              f"keys only in PEFT's {sorted(set(theirs) - set(ours))}, format {format_key}")


def check_made(root):
    """What crank made gives crank's logits in PEFT."""
    for name in sorted(os.listdir(root)):
        target = os.path.join(root, name)
        if not name.startswith("made_"):
            continue
        model = tf.AutoModelForCausalLM.from_pretrained(os.path.join(MODELS, "llama"), dtype=torch.float32, attn_implementation="eager").eval()
        base = outputs(model, "llama")[1]
        result = peft.PeftModel.from_pretrained(model, target).eval()
        _, adapted = outputs(result, "llama")
        ours = torch.from_file(os.path.join(target, "logits.f32"), size=adapted.numel()).reshape(adapted.shape)
        print(f"{name}: error {((adapted - ours).norm() / ours.norm()).item():.2e}, moved {((base - ours).norm() / ours.norm()).item():.2e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--check"]:
        for folder in sys.argv[2:]:
            check(folder)
            check_made(folder)
    else:
        for adapter in sys.argv[1:] or [*ADAPTERS, "llama_lora_xs"]:
            make_core() if adapter == "llama_lora_xs" else make(adapter)
