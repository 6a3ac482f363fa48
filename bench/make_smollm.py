#!/usr/bin/env python3
"""Makes a Hugging Face directory of SmolLM2-135M's shape with random weights and a real tokenizer, for `./run bench pretrained`.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers numpy
    /tmp/venv/bin/python bench/make_smollm.py DIR [--layers 30] [--dtype fp32|bf16]

30 layers, width 576, 9 heads, 3 key/value heads, feed-forward 1536, vocabulary 49152, tied head: 134,515,008 parameters. The
tokenizer is a byte-level BPE with SmolLM's pre-tokenizer, trained here on this repository and Python's own library; reserved
tokens fill the vocabulary up.
"""
import argparse
import glob
import json
import os
import struct
import sysconfig

import numpy
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCAB, WIDTH, HEADS, KV_HEADS, HEAD_DIM, FF = 49152, 576, 9, 3, 64, 1536
CHAT = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def corpus():
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    files = sorted(glob.glob(sysconfig.get_paths()["stdlib"] + "/*.py"))
    files += sorted(glob.glob(here + "/**/*.c", recursive=True) + glob.glob(here + "/**/*.md", recursive=True))
    for name in files:
        with open(name, errors="replace") as file:
            yield from file


def make_tokenizer(folder):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=VOCAB - 64, special_tokens=special, show_progress=False,
                                                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    rest = VOCAB - t.get_vocab_size()
    t.add_tokens([AddedToken(f"<|reserved_{i}|>", normalized=False, special=True) for i in range(rest)])
    t.save(os.path.join(folder, "tokenizer.json"))
    json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=CHAT),
              open(os.path.join(folder, "tokenizer_config.json"), "w"), indent=1)
    print(f"tokenizer: {VOCAB} ids, {rest} of them reserved")


def shapes(layers):
    yield "model.embed_tokens.weight", (VOCAB, WIDTH)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (WIDTH,)
        for name, rows in [("q", HEADS * HEAD_DIM), ("k", KV_HEADS * HEAD_DIM), ("v", KV_HEADS * HEAD_DIM)]:
            yield p + f"self_attn.{name}_proj.weight", (rows, WIDTH)
        yield p + "self_attn.o_proj.weight", (WIDTH, HEADS * HEAD_DIM)
        yield p + "post_attention_layernorm.weight", (WIDTH,)
        yield p + "mlp.gate_proj.weight", (FF, WIDTH)
        yield p + "mlp.up_proj.weight", (FF, WIDTH)
        yield p + "mlp.down_proj.weight", (WIDTH, FF)
    yield "model.norm.weight", (WIDTH,)


def make_weights(folder, layers, bf16):
    random, at, header = numpy.random.default_rng(1), 0, {"__metadata__": {"format": "pt"}}
    size = 2 if bf16 else 4
    for name, shape in shapes(layers):
        n = int(numpy.prod(shape)) * size
        header[name] = dict(dtype="BF16" if bf16 else "F32", shape=shape, data_offsets=[at, at + n])
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes(layers):
            residual = "o_proj" in name or "down_proj" in name
            scale = 0.02 / (2 * layers) ** 0.5 if residual else 0.02
            x = numpy.ones(shape, "<f4") if len(shape) == 1 else (scale * random.standard_normal(shape, "f4")).astype("<f4")
            file.write((x.view("<u4") >> 16).astype("<u2").tobytes() if bf16 else x.tobytes())
    print(f"weights: {at // size} parameters")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder")
    arguments.add_argument("--layers", type=int, default=30)
    arguments.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    args = arguments.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    make_tokenizer(args.folder)
    make_weights(args.folder, args.layers, args.dtype == "bf16")
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=FF,
                  num_hidden_layers=args.layers, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, hidden_act="silu",
                  max_position_embeddings=8192, rms_norm_eps=1e-05, rope_theta=100000, rope_scaling=None, rope_interleaved=False,
                  tie_word_embeddings=True, attention_bias=False, mlp_bias=False, bos_token_id=1, eos_token_id=2, pad_token_id=2,
                  torch_dtype="float32" if args.dtype == "fp32" else "bfloat16")
    json.dump(config, open(os.path.join(args.folder, "config.json"), "w"), indent=1)
    json.dump(dict(bos_token_id=1, eos_token_id=2, pad_token_id=2), open(os.path.join(args.folder, "generation_config.json"), "w"))


main()
