#!/usr/bin/env python3
"""Writes hf/texts.bin and, for each family, hf/FAMILY/tokenizer.json, tokenizer_config.json and ids.json.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers transformers
    /tmp/venv/bin/python tests/golden/hf_tokenizers.py [--show FAMILY N]

Byte-level BPE tokenizers are trained here by Hugging Face's `tokenizers`, with the pre-tokenizers, normalizers, added tokens
and templates of the families' published files. ids.json: per text a hash of its ids with special tokens recognised and one
with them taken as text (FNV-1a over little-endian 32-bit ids), and what the chat templates make of a conversation. Bytes that
are not UTF-8 are decoded with "replace" first: the library takes no others. Read by tests/trainer/model/test_bpe.c.
"""
import json
import os
import random
import struct
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hf")
VOCAB = 640

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def chatml_with_system(text):
    return ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
            "{{ '<|im_start|>system\n" + text + "<|im_end|>\n' }}{% endif %}"
            "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


LLAMA3_CHAT = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
               "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 "
               "%}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
               "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LLAMA31_CHAT = ("{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
                "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{{- 'Cutting Knowledge Date: December 2023\n' }}"
                "{{- 'Today Date: ' + date_string + '\n\n' }}{{- '<|eot_id|>' }}{%- for message in messages %}"
                "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
                "'<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}"
                "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}")

FAMILIES = {
    "llama3": dict(split=LLAMA3, special=["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                                          "<|eot_id|>"], bos="<|begin_of_text|>", eos="<|end_of_text|>", ignore_merges=True,
                   chats={"llama3": LLAMA3_CHAT, "llama3.1": LLAMA31_CHAT}),
    "qwen2": dict(split=QWEN2, special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], nfc=True, eos="<|im_end|>",
                  chats={"qwen2": chatml_with_system("You are a helpful assistant."),
                         "qwen2.5": chatml_with_system(
                             "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")}),
    "gpt2": dict(special=["<|endoftext|>"], eos="<|endoftext|>", chats={}),
    "smollm": dict(digits=True, special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], eos="<|im_end|>",
                   chats={"chatml": CHATML, "smollm2": chatml_with_system(
                       "You are a helpful AI assistant named SmolLM, trained by Hugging Face")}),
}

CONVERSATION = [("user", " A room with a <|im_end|> sign.\nA key lies here.\n"), ("assistant", "take key"),
                ("user", "Taken: caf\u00e9 key 2024."), ("assistant", "go north"), ("user", "\n\nYou see a door.  ")]

# ---- texts ----

WORDS = """the key is in red box go north open door take lamp you are a small room with light and dark stairs wall window
function return value class self import from while for print def int float string const struct static void include
Straße naïve café façade Ångström ﬁnal Ελληνικά ποταμός русский язык слово українська עברית שלום العربية مرحبا हिन्दी नमस्ते
ไทย ภาษา 中文 汉字 測試 日本語 かな カタカナ 한국어 한글 Tiếng Việt việt ქართული አማርኛ ١٢٣ ४५६ Ⅷ ½ ² ৳""".split()
CODE = ["if (a[i] != NULL) {\n\treturn -1;\n}\n", "def f(x, *args, **kw):\n    return {k: v for k, v in x}\n", "#include <stdio.h>\r\n",
        "SELECT * FROM t WHERE id=1;--x\n", "a += b<<2 | 0xFF; // hm\n", "print(f\"{x:>10}\")\n", "</div>\n<p class='a'>", "\\d+\\.\\d*?",
        "https://x.org/a?b=c&d=%20#e", "$HOME/.local/bin:$PATH", "x == y ? 'a' : \"b\"", "--flag=value -v 3.14159e-10\n"]
MARKS = ["\u0301", "\u0308", "\u0323", "e\u0301", "o\u0323\u0302", "\u1e9b\u0323", "\u0344", "\u2126", "\uac00", "\u1100\u1161\u11a8",
         "\u0958", "\u212b", "A\u030a"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n ", "\u00a0", "\u3000", "\u2028", "\u2003", "\u1680", "\u180e",
          "\u200b", "\u0085", "\u202f", "\x0b", "\x0c", "\ufeff"]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "❤️", "🏴\U000e0067\U000e0062\U000e007f", "🤖", "✨", "⌛", "©", "™", "∑", "→", "\U0001d400"]
CONTRACTIONS = ["I'm", "you'RE", "don't", "we'll", "he'd", "it'S", "they've", "'tis", "o'clock", "'\u017f", "x'\u017fy", "\u2019s",
                "'LL", "'Ve", "\u0130's", "'\u212a"]
CONTROLS = ["\x00", "\x01", "\x1b[0m", "\x7f", "\x08", "\u0090", "\ufffd", "\uffff", "\U0010ffff", "\ue000", "\u00ad"]
DIGITS = ["0", "7", "42", "123", "1234", "2024-07-26", "3.14159", "1,000,000", "12345678901234567890", "٣٤", "१२३", "Ⅳ", "½", "¹²³", "①"]
BROKEN = [b"\x80", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xe0\x80\x80",
          b"\xf4\x90\x80\x80", b"\xfe\xfe", b"\xf0\x80\x80\x80"]


def make_texts():
    r = random.Random(20240726)
    pools = [WORDS, CODE, MARKS, SPACES, EMOJI, CONTRACTIONS, CONTROLS, DIGITS]
    special = sorted({s for f in FAMILIES.values() for s in f["special"]})
    texts = [b"", b" ", b"\n", b"a", b"\x00"] + [x.encode() for pool in pools for x in pool] + BROKEN
    texts += [s.encode() for s in special]
    while len(texts) < 2600:
        parts, kind = [], r.random()
        for _ in range(r.randint(1, 9)):
            pool = WORDS if r.random() < 0.35 else r.choice(pools)
            if kind < 0.1 and r.random() < 0.3:
                parts.append(r.choice(special).encode())
            elif kind > 0.9 and r.random() < 0.4:
                parts.append(r.choice(BROKEN))
            elif kind > 0.8 and r.random() < 0.3:
                parts.append(bytes(r.randrange(256) for _ in range(r.randint(1, 6))))
            elif r.random() < 0.1:
                parts.append(chr(r.choice([r.randrange(0x20, 0x250), r.randrange(0x250, 0xd800), r.randrange(0xe000, 0x2fa1e)])).encode())
            else:
                parts.append(r.choice(pool).encode())
            if r.random() < 0.5:
                parts.append(r.choice(SPACES[:4] * 4 + SPACES).encode())
        texts.append(b"".join(parts))
    texts += [b"a" * 300, b" " * 200 + b"x", b"\n" * 90, b"ab" * 150, "é".encode() * 100, b"1" * 77, b"-" * 64]
    return texts


# ---- tokenizers ----

def make(family):
    t = Tokenizer(models.BPE(ignore_merges=family.get("ignore_merges", False)))
    if family.get("nfc"):
        t.normalizer = normalizers.NFC()
    if "split" in family:
        t.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(family["split"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    elif family.get("digits"):
        t.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(family["special"]) - 3, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    corpus = [x.decode("utf-8", "replace") for x in make_texts()] + WORDS * 3 + open(__file__).read().splitlines()
    t.train_from_iterator(corpus, trainer)
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in family["special"]])
    # not special: tokens that a text may contain, with white space taken, normalised or not
    t.add_tokens([AddedToken("[tool]", normalized=False), AddedToken("caf\u00e9 key", normalized=True, lstrip=True),
                  AddedToken("<mask>", normalized=False, rstrip=True)])
    if "bos" in family:
        bos = family["bos"]
        t.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1",
                                          special_tokens=[(bos, t.token_to_id(bos))])])
    else:
        t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t


def fnv(ids):
    h = 0x811c9dc5
    for byte in b"".join(struct.pack("<I", i) for i in ids):
        h = ((h ^ byte) * 0x01000193) & 0xffffffff
    return h


def conversation(t, family):
    out = []
    for name, template in family["chats"].items():
        fast = PreTrainedTokenizerFast(tokenizer_object=t, bos_token=family.get("bos"), eos_token=family["eos"])
        fast.chat_template = template
        messages = [dict(role=role, content=text.replace("<|im_end|>", "nice")) for role, text in CONVERSATION]
        turns = []
        for n in (1, 3, 5):
            ids = fast.apply_chat_template(messages[:n], add_generation_prompt=True, tokenize=True)
            turns.append(list(ids["input_ids"] if hasattr(ids, "keys") else ids))
        answers = [t.encode(m["content"], add_special_tokens=False).ids for m in messages if m["role"] == "assistant"]
        out.append(dict(name=name, template=template, messages=[m["content"] for m in messages], answers=answers, turns=turns))
    return out


def main():
    texts = make_texts()
    if sys.argv[1:2] == ["--show"]:
        t = Tokenizer.from_file(os.path.join(HERE, sys.argv[2], "tokenizer.json"))
        text = texts[int(sys.argv[3])].decode("utf-8", "replace")
        e = t.encode(text, add_special_tokens=False)
        print(repr(text), list(zip(e.ids, e.tokens)))
        return
    with open(os.path.join(HERE, "texts.bin"), "wb") as f:
        for text in texts:
            f.write(struct.pack("<H", len(text)) + text)
    for name, family in FAMILIES.items():
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        t = make(family)
        t.save(os.path.join(folder, "tokenizer.json"), pretty=False)
        config = dict(tokenizer_class="PreTrainedTokenizerFast", eos_token=family["eos"], bos_token=family.get("bos"))
        if family["chats"]:
            config["chat_template"] = list(family["chats"].values())[-1]
        json.dump(config, open(os.path.join(folder, "tokenizer_config.json"), "w"), indent=1)
        hashes = []
        for text in texts:
            both = []
            for plain in (False, True):
                t.encode_special_tokens = plain
                both.append(fnv(t.encode(text.decode("utf-8", "replace"), add_special_tokens=False).ids))
            hashes.append(both)
        t.encode_special_tokens = False
        json.dump(dict(vocab=t.get_vocab_size(), special={s: t.token_to_id(s) for s in family["special"]}, hashes=hashes,
                       opening=t.encode("", add_special_tokens=True).ids, chats=conversation(t, family)),
                  open(os.path.join(folder, "ids.json"), "w"), separators=(",", ":"))
        print(name, t.get_vocab_size(), len(texts), "texts")


main()
