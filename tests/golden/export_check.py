#!/usr/bin/env python3
"""Loads what `pal export` wrote with transformers and compares it with an episode that was sampled under those weights.

    build/release/bin/pal export JOB --version V /tmp/model && build/release/bin/pal episode ID --json > /tmp/episode.json
    /tmp/venv/bin/python tests/golden/export_check.py /tmp/model /tmp/episode.json [TEMPERATURE]

Checks that no key is missing or unexpected, that the recorded log-probs of the episode's tokens of version V are what
transformers computes, and that its tokenizer decodes the tokens to the transcript's text. By hand, not run by the tests.
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, episode = sys.argv[1], json.load(open(sys.argv[2]))
temperature = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
assert not info["missing_keys"] and not info["unexpected_keys"], info
tokenizer = AutoTokenizer.from_pretrained(folder)
tokens, recorded = [], []
for turn in episode["transcript"]:
    start = len(tokens)
    tokens += turn["tokens"]
    recorded += [(start + turn["action_from"] + i, p, v) for i, (p, v) in enumerate(zip(turn["logp"], turn["version"]))]
with torch.no_grad():
    logits = model(input_ids=torch.tensor([tokens])).logits[0] / temperature
logits[:, len(tokenizer):] = -torch.inf
logp = torch.log_softmax(logits, -1)
gap = max(abs(logp[at - 1, tokens[at]].item() - p) for at, p, _ in recorded)
text = tokenizer.decode(tokens)
print(f"{type(model).__name__} of {sum(p.numel() for p in model.parameters())} parameters; {len(recorded)} tokens of versions "
      f"{sorted({v for _, _, v in recorded})}: largest difference of log-probs {gap:.2g}")
again = tokenizer(text, add_special_tokens=False)["input_ids"]
print("text:", repr(text[:100]), "... ids again:", "the same" if again == tokens else "others (sampled tokens need not be canonical)")
