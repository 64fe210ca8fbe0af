"""Encoding and reranking on one GPU: crank beside PyTorch on the same card in one run.

usage: gpu_encode.py [--crank PATH] [--rows bert-encode,minilm-encode,prefill-1b,prefill-1b-ragged] [--modes eager,compile] [--repeat N] [--profile]
                     [--batches N] [--device cuda|cpu] [--scale full|tiny]

Random weights in bf16, the same token ids on both sides (tokenising counts for neither), time of the median pass over all rows behind
warm-up. crank's pass goes from ids in host memory to results in host memory; PyTorch's ids and results stay on the card.
  bert-encode, minilm-encode   batches of 512 rows of 128 tokens, mean-pooled vectors
  prefill-1b                   batches of 8 rows of 3072 tokens through a Llama of 1B: the last token's answer
  prefill-1b-ragged            rows of log-normal length (mean 700, sigma 0.8, at most 4096): packs of 8192 tokens; PyTorch pads batches of
                               8192 tokens, rows sorted by length, and once more in order of arrival
A line a side: rows/s, real tokens/s, share of the card's dense bf16 rate by the products and attention that the rows need.
"""
import argparse, json, math, os, random, subprocess, sys, tempfile

here = os.path.dirname(os.path.abspath(__file__))
p = argparse.ArgumentParser()
p.add_argument("--crank", default="build/crank"); p.add_argument("--rows", default="bert-encode,minilm-encode,prefill-1b,prefill-1b-ragged")
p.add_argument("--batches", type=int, default=4, help="of equal rows in a pass"); p.add_argument("--modes", default="compile"); p.add_argument("--repeat", type=int, default=10); p.add_argument("--profile", action="store_true")
p.add_argument("--device", default="cuda"); p.add_argument("--scale", default="full"); p.add_argument("--compute", default="bf16"); p.add_argument("--threads", type=int, default=0)
p.add_argument("--peak", type=float, default=989e12, help="FLOP/s of dense bf16 products"); p.add_argument("--python", default=sys.executable)
a = p.parse_args()
work = tempfile.mkdtemp()
tiny = a.scale == "tiny"

def bert(hidden, layers, heads, inner):
    return {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": inner, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
            "initializer_range": 0.02}

def llama(hidden, layers, heads, keys, inner, vocabulary):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": keys, "vocab_size": vocabulary, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0, "tie_word_embeddings": True, "initializer_range": 0.02, "hidden_act": "silu", "bos_token_id": 0, "eos_token_id": 0}

def ragged_lengths(count, mean, longest):
    draw, sigma = random.Random(7), 0.8
    return [max(16, min(longest, round(draw.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)))) for _ in range(count)]

one_b = llama(128, 2, 4, 2, 256, 1000) if tiny else llama(2048, 16, 32, 8, 8192, 128256)
ROWS = {  # config, lengths, tokens of a pack
    "bert-encode": (bert(64, 2, 4, 128) if tiny else bert(768, 12, 12, 3072), [32] * 8 if tiny else [128] * 512 * a.batches, 65536),
    "minilm-encode": (bert(48, 2, 4, 96) if tiny else bert(384, 6, 12, 1536), [32] * 8 if tiny else [128] * 512 * a.batches, 65536),
    "prefill-1b": (one_b, [96] * 2 if tiny else [3072] * 8 * min(a.batches, 2), 24576),
    "prefill-1b-ragged": (one_b, ragged_lengths(24, 60, 200) if tiny else ragged_lengths(192, 700, 4096), 1024 if tiny else 8192),
}

def needed_flops(config, lengths):
    """Products of the layers and attention over the tokens of each row."""
    h, layers, inner = config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]
    decoder = config["model_type"] == "llama"
    keys = config["num_key_value_heads"] / config["num_attention_heads"] if decoder else 1
    weights = h * h * (2 + 2 * keys) + h * inner * (3 if decoder else 2)
    return sum(2 * n * layers * weights + 4 * n * n * h * layers / (2 if decoder else 1) for n in lengths)

def ids_file(row, config, lengths):
    draw, path = random.Random(1), os.path.join(work, row + ".ids.json")
    json.dump([[draw.randrange(5, config["vocab_size"]) for _ in range(n)] for n in lengths], open(path, "w"))
    return path

def crank(row, config, shape, ids):
    decoder = config["model_type"] == "llama"
    command = [a.crank, "score" if decoder else "encode", shape, "--ids", ids, "--batch", str(ROWS[row][2]), "--compute", a.compute, "--device", a.device,
               "--repeat", str(a.repeat), "--json", *(["--answers", "11,12"] if decoder else ["--pooling", "mean"]), *(["--profile"] if a.profile else []),
               *(["--threads", str(a.threads)] if a.threads else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-1500:]}

def peer(shape, ids, mode, order, tokens):
    command = [a.python, os.path.join(here, "torch_encode.py"), shape, ids, "--device", a.device, "--order", order, "--tokens", str(tokens), "--repeat", str(a.repeat),
               "--dtype", "float32" if a.compute == "f32" else "bfloat16", *(["--compile"] if mode == "compile" else []), *(["--threads", str(a.threads)] if a.threads else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-1500:]}

def told(side, lengths, seconds, flops, more=""):
    print(f"{side:32} {len(lengths) / seconds:10,.1f} rows/s {sum(lengths) / seconds:12,.0f} tokens/s {1e3 * seconds:9.3f} ms {100 * flops / seconds / a.peak:6.2f} % of the peak{more}",
          flush=True)

for row in a.rows.split(","):
    config, lengths, tokens = ROWS[row]
    shape = os.path.join(work, row + ".json")
    json.dump(config, open(shape, "w"))
    ids, flops = ids_file(row, config, lengths), needed_flops(config, lengths)
    print(f"{row}: {len(lengths)} rows, {sum(lengths)} tokens, {flops / 1e12:.2f} TFLOP", flush=True)
    ours = crank(row, config, shape, ids)
    if "error" in ours:
        print(f"crank failed: {ours['error']}", flush=True)
        continue
    told("  crank", lengths, ours["median_seconds"], flops, f" ({ours['packs']} packs, {100 * (1 - sum(lengths) / ours['computed_tokens']):.1f} % filler, {ours['graphs']} graphs)")
    print(ours.get("profile", ""), end="")
    for mode in filter(None, a.modes.split(",")):
        for order in ["sorted", "arrival"] if len(set(lengths)) > 1 else ["sorted"]:
            theirs = peer(shape, ids, mode, order, tokens)
            if "error" in theirs:
                print(f"  PyTorch {mode} failed: {theirs['error']}", flush=True)
                continue
            name = f"  PyTorch {mode}" + (f", {order}" if len(set(lengths)) > 1 else "")
            told(name, lengths, theirs["seconds"], flops, f" ({theirs['batches']} batches, {100 * theirs['padding']:.1f} % padding); crank is {theirs['seconds'] / ours['median_seconds']:.3f} times as fast")
