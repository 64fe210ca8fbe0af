"""Golden files of quantised weights: tests/golden/quantized/{nf4,fp8}.safetensors and the model folders nf4-nested, nf4-plain, nf4-dense.

nf4.safetensors: bitsandbytes' CPU code on drawn matrices: codes, scales (plain and doubly quantised), dequantised weights. The three model
folders are one tiny Llama: its dense weights, and the same quantised by bitsandbytes with and without double quantisation, as transformers
saves them; the dequantised weights stand in the first folder's file. fp8.safetensors: torch's float8_e4m3fn of values of every size.

usage: python quantized.py (in tests/oracle, with torch, bitsandbytes and safetensors)
"""
import json
import os

import torch
import bitsandbytes.functional as bnb
from bitsandbytes.nn import Params4bit  # noqa: F401  (the file format is that of its state)
from safetensors.torch import save_file

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "quantized")


def quantize(w, nested, block=64):
    codes, state = bnb.quantize_4bit(w, blocksize=block, compress_statistics=nested, quant_type="nf4")
    return codes, state


def dequantize(codes, state):
    """Blocks of the flattened matrix, as on the GPU: the CPU kernel of bitsandbytes 0.50 takes other scales where rows are shorter than a block."""
    scales = state.absmax
    if state.nested:
        second = state.state2
        scales = second.code[scales.long()] * second.absmax[torch.arange(len(scales)) // second.blocksize] + state.offset
    flat = codes.reshape(-1).long()
    values = state.code[torch.stack([flat >> 4, flat & 15], 1).reshape(-1)]
    count = torch.Size(state.shape).numel()
    return (values[:count] * scales[torch.arange(count) // state.blocksize]).reshape(state.shape)


bnb_type = bnb.get_4bit_type
bnb.get_4bit_type = lambda kind, device=None, blocksize=64: bnb_type(kind, device="cpu", blocksize=blocksize)


def matrices():
    draw = torch.Generator().manual_seed(1)
    out = {}
    cases = {
        "normal": torch.randn(48, 192, generator=draw) * 0.05,
        "tails": torch.randn(16, 64, generator=draw) ** 3,
        "zeros": torch.randn(8, 128, generator=draw) * (torch.arange(8) % 2).view(8, 1),
        "uneven": torch.rand(5, 30, generator=draw) - 0.5,  # blocks that cross rows, a short last one
    }
    for name, w in cases.items():
        for nested in (False, True):
            codes, state = quantize(w, nested)
            tag = f"{name}.{'nested' if nested else 'plain'}"
            out[f"{tag}.codes"] = codes.reshape(-1).contiguous()
            out[f"{tag}.scales"] = state.absmax.contiguous()
            if nested:
                out[f"{tag}.second"] = state.state2.absmax.contiguous()
                out[f"{tag}.map"] = state.state2.code.contiguous()
                out[f"{tag}.offset"] = state.offset.reshape(1)
            for name2, kind in (("f32", torch.float32), ("bf16", torch.bfloat16)):
                state.dtype = kind
                out[f"{tag}.{name2}"] = bnb.dequantize_4bit(codes, state).contiguous()
        out[f"{name}.w"] = w
    save_file(out, os.path.join(OUT, "nf4.safetensors"))


def floats():
    draw = torch.Generator().manual_seed(2)
    x = torch.cat([torch.randn(400, generator=draw) * 10.0 ** (torch.rand(400, generator=draw) * 8 - 5),
                   torch.arange(-64, 65) / 8.0 * 2.0**-9, torch.tensor([0.0, -0.0, 447.9, 440.0, 432.0, 2.0**-6, 1.9375, 1.0625, 1.1875])])
    x = x.clamp(-448, 448)
    every = torch.arange(256, dtype=torch.uint8)
    save_file({"x": x, "codes": x.to(torch.float8_e4m3fn).view(torch.uint8), "every": every.view(torch.float8_e4m3fn).float()},
              os.path.join(OUT, "fp8.safetensors"))


CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
          "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": 0, "eos_token_id": 0}


def model():
    draw = torch.Generator().manual_seed(3)
    h, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    kv = h * CONFIG["num_key_value_heads"] // CONFIG["num_attention_heads"]
    shapes = {"self_attn.q_proj": (h, h), "self_attn.k_proj": (kv, h), "self_attn.v_proj": (kv, h), "self_attn.o_proj": (h, h),
              "mlp.gate_proj": (inner, h), "mlp.up_proj": (inner, h), "mlp.down_proj": (h, inner)}
    dense = {"model.embed_tokens.weight": torch.randn(CONFIG["vocab_size"], h, generator=draw) * 0.1, "model.norm.weight": torch.ones(h)}
    linears = []
    for i in range(CONFIG["num_hidden_layers"]):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            dense[f"model.layers.{i}.{norm}.weight"] = torch.rand(h, generator=draw) + 0.5
        for name, shape in shapes.items():
            linears.append(f"model.layers.{i}.{name}.weight")
            dense[linears[-1]] = torch.randn(*shape, generator=draw) * 0.1
    for nested in (True, False):
        packed, opened = dict(dense), dict(dense)
        for name in linears:
            codes, state = quantize(dense[name], nested)
            packed[name] = codes
            packed.update({f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()})
            opened[name] = dequantize(codes, state).contiguous()
        folder = os.path.join(OUT, "nf4-nested" if nested else "nf4-plain")
        config = dict(CONFIG, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False,
                                                   "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": nested,
                                                   "bnb_4bit_compute_dtype": "float32", "bnb_4bit_quant_storage": "uint8"})
        write(folder, config, packed)
        if nested:
            write(os.path.join(OUT, "nf4-opened"), CONFIG, opened)
    write(os.path.join(OUT, "nf4-dense"), CONFIG, dense)


def write(folder, config, tensors):
    os.makedirs(folder, exist_ok=True)
    json.dump(config, open(os.path.join(folder, "config.json"), "w"), indent=1)
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    matrices()
    floats()
    model()
