#!/usr/bin/env python3
"""Writes llama.json: a tiny Llama-shaped model in numpy float64, written independently of the C engine.

Weights are 0.4 sin(0.7 i + 0.3) over the flat index i (norms 1 + half of that, padding rows 0), so that both sides can make
them. Gives log-probs, entropies and the derivative of sum(logp) + 0.5 sum(entropy) by some weights, by central differences.
Run: python3 llama.py > llama.json
"""
import json
import numpy as np

C = dict(vocab=13, vocab_padded=16, layers=2, width=8, heads=4, kv_heads=2, head_dim=4, ff=12, theta=50.0, eps=1e-5)
TEMPERATURE = 0.8
TOKENS = [3, 1, 12, 7, 7, 0, 5, 2]
STARTS = [0, 5, 8]


def shapes():
    d, e, h, k, f = C["width"], C["head_dim"], C["heads"], C["kv_heads"], C["ff"]
    yield "embed", (C["vocab_padded"], d)
    for layer in range(C["layers"]):
        for name, shape in [("n1", (d,)), ("q", (h * e, d)), ("k", (k * e, d)), ("v", (k * e, d)), ("o", (d, h * e)),
                            ("n2", (d,)), ("gate", (f, d)), ("up", (f, d)), ("down", (d, f))]:
            yield f"{name}{layer}", shape
    yield "norm", (d,)


def make():
    n = sum(int(np.prod(s)) for _, s in shapes())
    flat = (0.4 * np.sin(0.7 * np.arange(n) + 0.3)).astype(np.float32).astype(np.float64)
    at = 0
    for name, shape in shapes():
        size = int(np.prod(shape))
        if len(shape) == 1:
            flat[at:at + size] = (1 + 0.5 * flat[at:at + size]).astype(np.float32)
        if name == "embed":
            flat[at + C["vocab"] * C["width"]:at + size] = 0
        at += size
    return flat


def unpack(flat):
    w, at = {}, 0
    for name, shape in shapes():
        size = int(np.prod(shape))
        w[name] = flat[at:at + size].reshape(shape)
        at += size
    return w


def rmsnorm(x, w):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + C["eps"]) * w


def rotate(x):  # [n, heads, e]
    n, _, e = x.shape
    angle = np.arange(n)[:, None] * C["theta"] ** (-np.arange(0, e, 2) / e)[None, :]
    angle = np.concatenate([angle, angle], -1)[:, None, :]
    half = np.concatenate([-x[..., e // 2:], x[..., :e // 2]], -1)
    return x * np.cos(angle) + half * np.sin(angle)


def sequence(w, ids):
    n, e, h, k = len(ids), C["head_dim"], C["heads"], C["kv_heads"]
    x = w["embed"][ids]
    for layer in range(C["layers"]):
        y = rmsnorm(x, w[f"n1{layer}"])
        q = rotate((y @ w[f"q{layer}"].T).reshape(n, h, e))
        key = np.repeat(rotate((y @ w[f"k{layer}"].T).reshape(n, k, e)), h // k, axis=1)
        value = np.repeat((y @ w[f"v{layer}"].T).reshape(n, k, e), h // k, axis=1)
        score = np.einsum("ihe,jhe->hij", q, key) / np.sqrt(e)
        score = np.where(np.tril(np.ones((n, n), bool)), score, -np.inf)
        p = np.exp(score - score.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhe->ihe", p, value).reshape(n, h * e) @ w[f"o{layer}"].T
        y = rmsnorm(x, w[f"n2{layer}"])
        gate = y @ w[f"gate{layer}"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w[f"up{layer}"].T)) @ w[f"down{layer}"].T
    z = rmsnorm(x, w["norm"]) @ w["embed"][:C["vocab"]].T / TEMPERATURE
    z = z - z.max(-1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    entropy = -(np.exp(logp) * logp).sum(-1)
    return [logp[i, ids[i + 1]] for i in range(n - 1)], list(entropy[:-1])


def forward(flat):
    w, logp, entropy = unpack(flat), [], []
    for a, b in zip(STARTS, STARTS[1:]):
        one, two = sequence(w, TOKENS[a:b])
        logp += one
        entropy += two
    return logp, entropy


def loss(flat):
    logp, entropy = forward(flat)
    return sum(logp) + 0.5 * sum(entropy)


def main():
    flat = make()
    logp, entropy = forward(flat)
    gradient = []
    for i in range(0, len(flat), 7):
        up, down = flat.copy(), flat.copy()
        up[i] += 1e-6
        down[i] -= 1e-6
        gradient.append([i, round((loss(up) - loss(down)) / 2e-6, 9)])
    print(json.dumps(dict(config=C, temperature=TEMPERATURE, tokens=TOKENS, starts=STARTS, count=len(flat), logp=logp,
                          entropy=entropy, gradient=gradient)))


main()
