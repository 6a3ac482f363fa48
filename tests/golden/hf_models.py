#!/usr/bin/env python3
"""Writes tiny models as Hugging Face directories and what transformers computes with them, into hf/llama3 and hf/qwen2.

    /tmp/venv/bin/pip install torch transformers
    /tmp/venv/bin/python tests/golden/hf_models.py

llama3: grouped queries, head_dim apart from width / heads, llama3 rope scaling, tied head, fp32 in two shards. qwen2: q/k/v
bias, separate head, bf16 in one file, more embedding rows than tokens. golden.json: log-probs, entropies, hidden states and
logits of packed sequences under a temperature, and the gradient of sum(w logp) + sum(u entropy), computed in float64 with
PyTorch's autograd from the weights as they are stored. Rows past the tokenizer's vocabulary are masked. Run hf_tokenizers.py
first. Read by tests/trainer/model/test_hf_golden.c.
"""
import json
import os

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hf")
TEMPERATURE = 0.7
LENGTHS = [11, 2, 24, 7]
VOCAB = 640  # ids that the tokenizers have

COMMON = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=28,
              initializer_range=0.3, max_position_embeddings=2048)


def llama():
    config = LlamaConfig(vocab_size=VOCAB, head_dim=6, tie_word_embeddings=True, rms_norm_eps=1e-5, bos_token_id=632,
                         eos_token_id=[633, 636], rope_parameters=dict(
                             rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=16), **COMMON)
    return LlamaForCausalLM(config), torch.float32


def qwen2():
    config = Qwen2Config(vocab_size=656, tie_word_embeddings=False, rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=636,
                         rope_parameters=dict(rope_type="default", rope_theta=1000000.0), **COMMON)
    return Qwen2ForCausalLM(config), torch.bfloat16


def randomize(model):
    generator = torch.Generator().manual_seed(5)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        p.data = 1 + 0.3 * noise if "norm" in name else 0.3 * noise


def run(model, sequences):
    logp, entropy, hidden, logits = [], [], [], []
    for ids in sequences:
        out = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        z = out.logits[0, :-1, :VOCAB]
        p = torch.log_softmax(z / TEMPERATURE, -1)
        logp.append(p[torch.arange(len(ids) - 1), torch.tensor(ids[1:])])
        entropy.append(-(p.exp() * p).sum(-1))
        hidden.append(out.hidden_states[-1][0, :-1])
        logits.append(z[-1])
    return torch.cat(logp), torch.cat(entropy), torch.cat(hidden), torch.stack(logits)


def weights_of(n, a, b):
    return torch.tensor([a + b * ((7 * i) % 5 - 2) for i in range(n)], dtype=torch.float64)


def rounded(x, digits=9):
    return [round(v, digits) for v in x.flatten().tolist()]


def golden(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    generator = torch.Generator().manual_seed(9)
    sequences = [torch.randint(0, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]
    logp, entropy, hidden, logits = run(model, sequences)
    w, u = weights_of(len(logp), 0.5, 0.25), weights_of(len(logp), 0.1, -0.2)
    ((w * logp).sum() + (u * entropy).sum()).backward()
    gradient = {}
    for name, p in model.named_parameters():
        g = p.grad.flatten()
        step = max(1, len(g) // 150) | 1
        gradient[name] = dict(norm=g.norm().item(), step=step, values=rounded(g[::step], 8))
    starts = [sum(LENGTHS[:i]) for i in range(len(LENGTHS) + 1)]
    return dict(temperature=TEMPERATURE, vocab=VOCAB, starts=starts, tokens=sum(sequences, []), dlogp=w.tolist(),
                dentropy=u.tolist(), logp=rounded(logp), entropy=rounded(entropy), hidden=rounded(hidden[::4], 7), hidden_step=4,
                logits=rounded(logits[:, ::16], 7), logits_step=16, gradient=gradient)


def main():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    for name, make in [("llama3", llama), ("qwen2", qwen2)]:
        folder = os.path.join(HERE, name)
        model, dtype = make()
        randomize(model)
        if name == "qwen2":
            model.generation_config.eos_token_id = [636, 634]
        model.to(dtype).save_pretrained(folder, max_shard_size="30KB" if name == "llama3" else "1GB")
        for file in os.listdir(folder):
            os.chmod(os.path.join(folder, file), 0o644)
        result = golden(folder)
        json.dump(result, open(os.path.join(folder, "golden.json"), "w"), separators=(",", ":"))
        files = sorted(f for f in os.listdir(folder) if f.endswith(".safetensors"))
        print(name, files, sum(os.path.getsize(os.path.join(folder, f)) for f in files),
              {t: tuple(v.shape) for f in files for t, v in load_file(os.path.join(folder, f)).items() if "layers.1" not in t})


main()
