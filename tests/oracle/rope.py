"""Golden tables of rotary angles as transformers computes them in f32.

Usage: python tests/oracle/rope.py        (writes tests/golden/rope.safetensors)

    positions i32 [p];  NAME [p, dims]: dims/2 cosines, then dims/2 sines, for the settings of SETTINGS (repeated in the test)
"""

import os

import torch
import transformers as tf
from safetensors.torch import save_file
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

POSITIONS = [0, 1, 2, 37, 511, 2047, 8191, 8192, 32767, 100000, 131071]
SETTINGS = {
    "default_64": (64, dict(rope_type="default", rope_theta=10000.0)),
    "default_96": (96, dict(rope_type="default", rope_theta=10000.0)),
    "theta_128": (128, dict(rope_type="default", rope_theta=1000000.0)),
    "linear_128": (128, dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
    "llama3_64": (64, dict(rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
                           original_max_position_embeddings=8192)),
    "llama3_128": (128, dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=8192)),
}

torch.set_num_threads(1)
out = {"positions": torch.tensor(POSITIONS, dtype=torch.int32)}
for name, (dims, parameters) in SETTINGS.items():
    config = tf.LlamaConfig(head_dim=dims, hidden_size=dims, num_attention_heads=1, max_position_embeddings=131072,
                            rope_parameters=parameters)
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.tensor([POSITIONS]))
    out[name] = torch.cat([cos[0, :, : dims // 2], sin[0, :, : dims // 2]], dim=1)
save_file(out, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "rope.safetensors"))
