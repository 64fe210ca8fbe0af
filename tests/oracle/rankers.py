"""rankers.py OUT - scores of rankers and one step of SGD (rate 0.5) on ListNet's loss, by PyTorch autograd in f32.

OUT: safetensors. For each case C: "C.before.NAME" the weights, "C.scores", "C.after.NAME"; and "x" [13, 6], "labels" [13] of lists of 3, 1, 5
and 4 items. Cases as in tests/rank/test_rank.c. BatchNorm1d, LayerNorm and Linear are torch's; attention is written out."""
import sys

import torch
from safetensors.torch import save_file

torch.manual_seed(3)
OFFSETS = [0, 3, 4, 9, 13]
x = torch.randn(13, 6)
labels = torch.tensor([0, 2, 1, 1, 0, 3, 1, 0, 2, 4, 0, 1, 0], dtype=torch.float32)
out = {"x": x, "labels": labels}


class Mlp(torch.nn.Module):
    def __init__(self, sizes, norm, activation):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        if norm:
            self.norms = torch.nn.ModuleList(norm(a) for a in sizes[:-1])
        self.activation = activation

    def forward(self, h):
        for i, layer in enumerate(self.layers):
            h = layer(self.norms[i](h) if hasattr(self, "norms") else h)
            if i + 1 < len(self.layers):
                h = self.activation(h)
        return h[:, 0]


class Block(torch.nn.Module):
    def __init__(self, width, heads, feed):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (torch.nn.Linear(width, width) for _ in range(4))
        self.up, self.down = torch.nn.Linear(width, feed), torch.nn.Linear(feed, width)
        self.attention_norm, self.mlp_norm = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)

    def forward(self, h):
        n = self.attention_norm(h)
        q, k, v = (f(n).view(len(h), self.heads, -1).transpose(0, 1) for f in (self.q, self.k, self.v))
        seen = torch.cat([torch.softmax(q[:, a:b] @ k[:, a:b].transpose(1, 2) / q.shape[2] ** 0.5, -1) @ v[:, a:b] for a, b in zip(OFFSETS, OFFSETS[1:])], 1)
        h = h + self.out(seen.transpose(0, 1).reshape(len(h), -1))
        return h + self.down(torch.relu(self.up(self.mlp_norm(h))))


class Attention(torch.nn.Module):
    def __init__(self, columns, width, heads, feed, blocks):
        super().__init__()
        self.input = torch.nn.Linear(columns, width)
        self.blocks = torch.nn.ModuleList(Block(width, heads, feed) for _ in range(blocks))
        self.norm = torch.nn.LayerNorm(width)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(width, 1)])

    def forward(self, h):
        h = self.input(h)
        for block in self.blocks:
            h = block(h)
        return self.layers[0](self.norm(h))[:, 0]


cases = {
    "linear": Mlp([6, 1], None, None),
    "plain": Mlp([6, 8, 5, 1], None, torch.nn.functional.elu),
    "layer": Mlp([6, 8, 1], torch.nn.LayerNorm, torch.relu),
    "batch": Mlp([6, 8, 1], torch.nn.BatchNorm1d, torch.tanh),
    "attention": Attention(6, 8, 2, 12, 2),
}
for name, model in cases.items():
    kept = lambda: {k: v.clone() for k, v in model.state_dict().items() if "num_batches" not in k}
    out.update({"%s.before.%s" % (name, k): v for k, v in kept().items()})
    scores = model(x)
    loss, lists = 0, 0
    for a, b in zip(OFFSETS, OFFSETS[1:]):
        if b - a > 1:
            loss, lists = loss - (torch.softmax(labels[a:b], 0) * torch.log_softmax(scores[a:b], 0)).sum(), lists + 1
    (loss / lists).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.5 * p.grad
    out["%s.scores" % name] = scores.detach()
    out.update({"%s.after.%s" % (name, k): v for k, v in kept().items()})
save_file({k: v.contiguous() for k, v in out.items()}, sys.argv[1])
