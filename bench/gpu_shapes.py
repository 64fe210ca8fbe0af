"""What the scripts that time training steps share: shapes of models with random weights, a text of random words, crank's words, PEFT's methods."""
import json, os, random

here = os.path.dirname(os.path.abspath(__file__))
SHAPES = {  # hidden, layers, heads, key heads, intermediate, vocabulary, tied
    "tiny": (64, 2, 4, 2, 128, 32000, True),
    "15m": (288, 6, 6, 6, 768, 32000, True),
    "350m": (1024, 24, 16, 16, 2736, 32000, False),
    "1b": (2048, 16, 32, 8, 8192, 128256, True),
    "8b": (4096, 32, 32, 8, 14336, 128256, False),
}

def shape_file(work, name):
    h, layers, heads, keys, inner, vocabulary, tied = SHAPES[name]
    path = os.path.join(work, name + ".json")
    json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": h, "intermediate_size": inner, "num_hidden_layers": layers,
               "num_attention_heads": heads, "num_key_value_heads": keys, "vocab_size": vocabulary, "max_position_embeddings": 8192,
               "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": tied, "initializer_range": 0.02, "hidden_act": "silu",
               "bos_token_id": 0, "eos_token_id": 0}, open(path, "w"))
    return path

def text_file(work, tokens):
    """One document of random words: long enough for every step whatever the tokenizer makes of it."""
    path = os.path.join(work, f"text{tokens}.txt")
    if not os.path.exists(path):
        words, draw = [], random.Random(1)
        for _ in range(tokens):
            words.append("".join(draw.choice("etaoinshrdlu") for _ in range(draw.randint(3, 8))))
        open(path, "w").write(" ".join(words))
    return path

def train_words(crank, work, shape, batch, seq, steps, out, device="cuda", compute="bf16", tokenizer=os.path.join(os.path.dirname(here), "assets", "base")):
    """`crank train` on full packed batches, no evaluation, no files beside the adapter."""
    return [crank, "train", f"model.config={shape_file(work, shape)}", f"model.device={device}", f"model.compute={compute}", f"data.tokenizer={tokenizer}",
            f"data.train={text_file(work, batch * seq * steps)}", "data.document=file", f"data.context={seq}", "data.overflow=split", f"train.batch={batch}",
            f"train.steps={steps}", "train.lr=1e-4", "train.save_every=1000000", "train.keep=last", "train.resume=false", "output.report=false",
            "output.tensorboard=false", f"output.path={work}/{out}"]

def peft_config(method, rank, targets="all-linear"):
    from peft import LoraConfig, MissConfig, RandLoraConfig
    return {"lora": lambda: LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, lora_dropout=0.0),
            "dora": lambda: LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, lora_dropout=0.0, use_dora=True),
            "miss": lambda: MissConfig(r=rank, target_modules=targets),
            "bat": lambda: MissConfig(r=rank, init_weights="bat", target_modules=targets),
            "randlora": lambda: RandLoraConfig(r=rank, target_modules=targets)}[method]()
