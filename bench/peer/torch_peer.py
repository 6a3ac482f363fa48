"""The same transformer in eager PyTorch: what bench_engine --peer torch measures itself against.

Reads one JSON object from the file argv[1]: the shape, where its weights lie (fp32, in the order of `tensors`), and what to
measure; prints one JSON object. Training is forward, log-probs and entropies of all targets, and backward to every weight; decoding
is one token a step for a batch with a preallocated cache. Attention and norms are PyTorch's fused ones.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F


def load(job):
    block = torch.from_file(job["weights"], shared=False, size=job["count"], dtype=torch.float32)
    tensors, at = {}, 0
    for name, rows, cols in job["tensors"]:
        flat = block[at : at + rows * cols]
        tensors[name] = flat.view(rows, cols).clone() if rows > 1 else flat.clone()
        at += rows * cols
    return tensors


class Model:
    def __init__(self, job):
        self.c = job["config"]
        t = load(job)
        self.embed = t["model.embed_tokens.weight"]
        self.head = t.get("lm_head.weight", self.embed)
        self.norm = t["model.norm.weight"]
        self.layers = []
        for i in range(self.c["layers"]):
            get = lambda name: t["model.layers.%d.%s.weight" % (i, name)]
            self.layers.append(
                {
                    "norm1": get("input_layernorm"),
                    "qkv": torch.cat([get("self_attn.q_proj"), get("self_attn.k_proj"), get("self_attn.v_proj")]),
                    "o": get("self_attn.o_proj"),
                    "norm2": get("post_attention_layernorm"),
                    "gu": torch.cat([get("mlp.gate_proj"), get("mlp.up_proj")]),
                    "down": get("mlp.down_proj"),
                }
            )
        half = self.c["head_dim"] // 2
        step = self.c["rope_theta"] ** (-2.0 * torch.arange(half, dtype=torch.float64) / self.c["head_dim"])
        angle = torch.arange(job["positions"], dtype=torch.float64)[:, None] * step
        self.cos, self.sin = angle.cos().float(), angle.sin().float()

    def parameters(self):
        some = [self.embed, self.norm] + ([] if self.head is self.embed else [self.head])
        return some + [w for layer in self.layers for w in layer.values()]

    def rope(self, x, at, n):
        half = self.c["head_dim"] // 2
        a, b = x[..., :half], x[..., half:]
        cos, sin = self.cos[at : at + n], self.sin[at : at + n]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def forward(self, tokens, cache=None, at=0):
        c = self.c
        B, T = tokens.shape
        D, H, K, E = c["width"], c["heads"], c["kv_heads"], c["head_dim"]
        x = F.embedding(tokens, self.embed)
        for i, w in enumerate(self.layers):
            qkv = F.linear(F.rms_norm(x, (D,), w["norm1"], c["rms_eps"]), w["qkv"])
            q, k, v = qkv.view(B, T, H + 2 * K, E).transpose(1, 2).split([H, K, K], 1)
            q, k = self.rope(q, at, T), self.rope(k, at, T)
            if cache is not None:
                cache[i][0][:, :, at : at + T] = k
                cache[i][1][:, :, at : at + T] = v
                k, v = cache[i][0][:, :, : at + T], cache[i][1][:, :, : at + T]
            out = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None, enable_gqa=H != K)
            x = x + F.linear(out.transpose(1, 2).reshape(B, T, H * E), w["o"])
            gate, up = F.linear(F.rms_norm(x, (D,), w["norm2"], c["rms_eps"]), w["gu"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, w["down"])
        return F.rms_norm(x, (D,), self.norm, c["rms_eps"])

    def score(self, tokens):
        """log-probs and entropies of all tokens but each sequence's first"""
        logits = F.linear(self.forward(tokens)[:, :-1], self.head[: self.c["vocab"]])
        all_logp = logits.log_softmax(-1)
        logp = all_logp.gather(-1, tokens[:, 1:, None])[..., 0]
        return logp, -(all_logp.exp() * all_logp).sum(-1)


def best(job, seconds, work, step):
    step()
    clock = time.process_time if job["cpu"] else time.perf_counter
    share = job["threads"] if job["cpu"] else 1
    top, total, spent, end = 0.0, 0.0, 0.0, time.perf_counter() + seconds
    while spent == 0 or time.perf_counter() < end:
        begin = clock()
        step()
        took = (clock() - begin) / share
        top, total, spent = max(top, work / took), total + work, spent + took
    return total / spent if job["cpu"] else top


def tokens_of(job, batch, length):
    return (torch.arange(batch * length) * 7 % job["ids"]).view(batch, length)


def train(model, job, batch, length):
    tokens = tokens_of(job, job["unique"], length).repeat(batch // job["unique"], 1)  # as our micro-batches: each the same
    parameters = model.parameters()

    def step():
        for p in parameters:
            p.grad = None
        logp, entropy = model.score(tokens)
        (0.001 * logp.sum() + 0.001 * entropy.sum()).backward()

    for p in parameters:
        p.requires_grad_(True)
    rate = best(job, job["seconds"], batch * length, step)
    with torch.no_grad():
        logp, entropy = model.score(tokens)
    norm = sum(float((p.grad.double() ** 2).sum()) for p in parameters) ** 0.5
    for p in parameters:
        p.requires_grad_(False)
        p.grad = None
    return {"tokens_per_s": rate, "logp": float(logp.double().mean()), "entropy": float(entropy.double().mean()), "norm": norm}


@torch.inference_mode()
def decode(model, job, batch, context):
    c, steps, at = job["config"], 16, [0]
    shape = (batch, c["kv_heads"], context + steps, c["head_dim"])
    cache = [(torch.full(shape, 0.01), torch.full(shape, 0.01)) for _ in model.layers]
    tokens = tokens_of(job, batch, 1)
    head = model.head[: c["vocab"]]

    def step():
        F.linear(model.forward(tokens, cache, context + at[0] % steps)[:, -1], head)
        at[0] += 1

    return {"tokens_per_s": best(job, job["seconds"] / 2, batch, step)}


def main():
    with open(sys.argv[1]) as file:
        job = json.load(file)
    torch.set_num_threads(job["threads"])
    model = Model(job)
    out = {"torch": torch.__version__, "train": [], "decode": []}
    for batch, length in job["train"]:
        out["train"].append({"batch": batch, "length": length, **train(model, job, batch, length)})
    for batch, context in job["decode"]:
        out["decode"].append({"batch": batch, "context": context, **decode(model, job, batch, context)})
    json.dump(out, sys.stdout)


main()
