#!/usr/bin/env python3
"""Compares tokenizer_export with Hugging Face's tokenizers. Not run by the tests.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers
    PAL_TOKENIZER_DUMP=/tmp/dump build/release/tests/test.trainer.model.tokenizer
    /tmp/venv/bin/python tests/golden/tokenizer_check.py /tmp/dump

The test writes DIR/tokenizer.json and DIR/texts.json, [text, ids] pairs, when PAL_TOKENIZER_DUMP names a directory.
"""
import json
import sys
from tokenizers import Tokenizer

folder = sys.argv[1]
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
pairs = json.load(open(folder + "/texts.json"))
for text, ids in pairs:
    got = tokenizer.encode(text, add_special_tokens=False).ids
    assert got == ids, (text, got, ids)
    assert tokenizer.decode(got, skip_special_tokens=False) == text, (text, tokenizer.decode(got))
for text in ["\u27e8pad\u27e9", "a\tb", "caf\u00e9"]:
    print(repr(text), tokenizer.encode(text).ids)
print(len(pairs), "texts agree")
