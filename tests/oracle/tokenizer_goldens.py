"""Golden files of the tokenizers, made with the `tokenizers` library.

    tokenizer_goldens.py [--cache FOLDER] [--data FOLDER]

writes into tests/golden/tokenizers/:
    KIND.json      a small tokenizer of every kind, trained on tiny texts (KIND.json.gz where it is large)
    mixed.txt      lines of mixed text; bytes below 0x20, 0x7F, invalid ones and the backslash are written \\xHH
    KIND.ids       a line for each line of mixed.txt: ids with special tokens, then "|" and FNV-1a hashes of byte offsets
                   and of the decoded text without and with special tokens
    variants.txt   KIND and chains of hashes of ids over mixed.txt: without special tokens, with special tokens of the text
                   read as plain text, and of pairs (each line with the next)
    real.txt       tokenizer, data set, lines, and a chain of hashes over ids, one for each block of 100 lines
    trained.txt    the merges of a byte-level BPE trained on tiny Shakespeare, as a hash, and the first of them

The cache folder keeps what is not ours to commit: the tokenizer.json of Llama 2, converted from its SentencePiece model.
"""
import argparse, gzip, json, pathlib, random, sys, tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/tokenizers"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
            " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
ALPHABET = pre_tokenizers.ByteLevel.alphabet()
META = "\u2581"

WORLD = [
    "你好，世界！这是一个测试，看看分词器如何处理中文。", "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。", "日本語のテキスト。カタカナとひらがな、漢字。",
    "한국어 텍스트입니다. 띄어쓰기가 있어요.", "مرحبا بالعالم! هذا اختبار ١٢٣٤", "שלום עולם, זה מבחן", "नमस्ते दुनिया, यह एक परीक्षण है। क्षत्रिय ज्ञान",
    "Привет, мир! Это проверка.", "Γειά σου Κόσμε! Σίσυφος ΟΔΟΣ", "สวัสดีชาวโลก นี่คือการทดสอบ", "Xin chào thế giới, đây là bài kiểm tra",
    "İstanbul'da ılık bir gün; DİYARBAKIR", "Straße, GROẞ, Ǆ ǅ ǆ", "ﬁne ﬂow ﬀ, ½ + ¼ = ¾, ① ② ㎏ ㍿ ™ ℃", "ｆｕｌｌ　ｗｉｄｔｈ　１２３", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 𝕏",
    "👨‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 🇩🇪🇯🇵, 👍🏽, 🧑🏿‍🚀, ❤️, 1️⃣", "🤗🤗🤗 emoji🤗glued🤗", "cafe\u0301 caf\u00e9 e\u0301\u0323 a\u0323\u0301 \u0301alone",
    "q\u0307\u0323 Å A\u030a \u212b ệ e\u0302\u0323", "ᄀ\u1161\u11a8 각 가\u11a8", "zero\u200bwidth \u200djoin\u200c \ufeffbom \u00adsoft \u2060word",
    "\u2028line\u2029para\u0085next\u00a0nbsp\u3000ideo\u1680ogham\u180emongol", "ﷺ ﷽ ؀ ۝", "\U00020000\U0002f800 \u9fff\u3400", "Ⅷ ⅷ ² ³ ¹ ⁴ ₅", "\u0344 \u0f73 \u0fb9",
]
PLAIN = [
    "", "a", " ", "  ", "   three spaces", "trailing   ", "\t", "\n", "\n\n\n", "a\nb\n\nc\r\nd\r\n", "\t\tindent\n    four\n",
    "a  b   c    d     e", "Don't I'll we've he's they're I'm she'd DON'T I'LL WE'VE", "don\u2019t \u201cquote\u201d \u2014 dash\u2026",
    "1 12 123 1234 12345 123456 3.14159 1,000,000 1e-5 0x1F 2024-01-31", "foo_bar fooBar FOO_BAR __init__ a.b.c", "http://example.org/a?b=c&d=e#f",
    "<s>hello</s> <|endoftext|>world<|endoftext|> <|im_start|>user\nhi<|im_end|>", "[CLS] a [SEP] b [MASK] c [PAD] d [UNK]",
    "x<mask>y  <mask>  z<mask>", "<extra_id_0> <pad> <unk> <unk><unk>", "TOKEN token tokens atoken token.", "keep LEFT  here  RIGHT  there", "single aword word words Word word",
    "!!! ... ??? --- *** ###", "(a) [b] {c} <d> \"e\" 'f' `g`", "$5.00 + 10% = @home #tag ^caret ~tilde |pipe \\back /slash", "a" * 100, "ab" * 60, " " * 60, "x" + " " * 30 + "y",
    "\n" * 20, "=" * 50, "supercalifragilisticexpialidocious antidisestablishmentarianism", "\u0000nul \u0001\u0002 \u001b[31m \u007f del",
    "the The THE tHe", "I am. He is! Are you? Yes, no; maybe: so.", "hello world " * 10,
]
BROKEN = [b"\xff\xfe", b"abc\x80def", b"\xe2\x82", b"\xf0\x9f\x98", b"a\xed\xa0\x80b", b"\xc0\xaf \xc1", b"\xe2\x28\xa1 x", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80",
          b"ok \xe4\xb8 cut", b"\xe4\xb8\xad\xe4", b"\xfftoken\xff <s>\xff"]


def fnv(data, value=0xCBF29CE484222325):
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def pack(numbers, size=4):
    return b"".join(int(n).to_bytes(size, "little", signed=True) for n in numbers)


def code_lines():
    lines = []
    for path in ("src/base/context.c", "src/base/file.c", "tests/oracle/unicode_tables.py", "CMakeLists.txt"):
        lines += [line for line in (ROOT / path).read_text().split("\n") if len(line) > 20][:18]
    return lines


def corpus():
    """Text that the small tokenizers learn from: code, the lines above, and a few English sentences."""
    english = [
        "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
        "She sells sea shells by the sea shore; the shells that she sells are sea shells for sure.",
        "In the beginning there was nothing, which exploded, and it has been expanding since then.",
        "There were 123 people in 45 cities, and 6789 of the 1000000 stars were counted in 2024.",
        "It's what we've been waiting for: they're here, he'll say, but I'm not sure that you'd agree.",
        "Learning to rank is the task of ordering documents so that the most relevant come first.",
        "A low-rank update of a weight matrix has far fewer parameters than the matrix itself.",
    ]
    return (english * 6 + PLAIN + WORLD * 2 + code_lines()) * 2


def train(model, trainer, normalizer=None, pre_tokenizer=None):
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator([text.replace("\0", "") for text in corpus()], trainer)  # JSON readers refuse U+0000
    return tokenizer


def byte_level(pre_tokenizer, size=900, normalizer=None, special=("<|endoftext|>",), **options):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), initial_alphabet=ALPHABET, show_progress=False)
    tokenizer = train(models.BPE(**options), trainer, normalizer, pre_tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split_then_bytes(*patterns, behavior="isolated"):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), behavior) for p in patterns]
                                   + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def gpt2():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def llama3():
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|endoftext|>"]
    tokenizer = byte_level(split_then_bytes(LLAMA3), special=special)
    tokenizer.model = models.BPE(*bpe_parts(tokenizer), ignore_merges=True)
    template = processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|>:0 $A:0 <|begin_of_text|>:1 $B:1",
                                             special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return tokenizer


def bpe_parts(tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def qwen2():
    tokenizer = byte_level(split_then_bytes(QWEN2), normalizer=normalizers.NFC(), special=[])
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False, special=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def gpt4o():
    return byte_level(split_then_bytes(GPT4O))


def deepseek():
    return byte_level(split_then_bytes(*DEEPSEEK))


def bloom():
    tokenizer = byte_level(split_then_bytes(BLOOM), special=["<unk>", "<s>", "</s>", "<pad>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def falcon():
    parts = [pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.Digits(False),
             pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")]
    return byte_level(pre_tokenizers.Sequence(parts))


def roberta():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), special=["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=True)
    return tokenizer


def bytes_normalized():
    """The byte-level alphabet as a normaliser, and added tokens that match normalised text."""
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.ByteLevel()])
    tokenizer = byte_level(pre_tokenizers.Split(Regex("Ġ?[^ĠĊ]+|[ĠĊ]+"), "isolated"), normalizer=normalizer)
    tokenizer.add_tokens([AddedToken("token", normalized=True), AddedToken(" ½", normalized=True)])
    return tokenizer


def clip():
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    splitter = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CLIP), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=["<|startoftext|>", "<|endoftext|>"], initial_alphabet=ALPHABET,
                                  end_of_word_suffix="</w>", show_progress=False)
    tokenizer = train(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"), trainer, normalizer, splitter)
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    tokenizer.post_processor = processors.RobertaProcessing(("<|endoftext|>", 1), ("<|startoftext|>", 0), trim_offsets=False, add_prefix_space=False)
    return tokenizer


def sentencepiece_bpe(normalizer, pre_tokenizer, fuse=True, fallback=True):
    special = ["<unk>", "<s>", "</s>"] + ([f"<0x{byte:02X}>" for byte in range(256)] if fallback else [])
    trainer = trainers.BpeTrainer(vocab_size=1100, special_tokens=special, limit_alphabet=160, show_progress=False, max_token_length=12)
    learner = train(models.BPE(), trainer, normalizer, pre_tokenizers.Metaspace() if pre_tokenizer is None else pre_tokenizer)
    tokenizer = Tokenizer(models.BPE(*bpe_parts(learner), unk_token="<unk>", fuse_unk=fuse, byte_fallback=fallback))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tokenizer


def llama2():
    normalizer = normalizers.Sequence([normalizers.Prepend(META), normalizers.Replace(" ", META)])
    tokenizer = sentencepiece_bpe(normalizer, None)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(META, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def llama2_new():
    """The newer form, and added tokens of every kind."""
    tokenizer = sentencepiece_bpe(None, pre_tokenizers.Metaspace(META, "first", split=False))
    tokenizer.decoder = decoders.Sequence([decoders.Replace(META, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_tokens([AddedToken("token", single_word=True), AddedToken("LEFT", lstrip=True), AddedToken("RIGHT", rstrip=True),
                          AddedToken("word", single_word=True, lstrip=True, rstrip=True), AddedToken("TOKEN", special=True)])
    return tokenizer


def sentencepiece_unknown():
    """No byte fallback, unknown characters not fused, spaces kept apart."""
    tokenizer = sentencepiece_bpe(normalizers.NFKC(), pre_tokenizers.Metaspace(META, "always", split=True), fuse=False, fallback=False)
    tokenizer.decoder = decoders.Metaspace(META, "always")
    return tokenizer


def bert(lowercase=True):
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    trainer = trainers.WordPieceTrainer(vocab_size=1200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], limit_alphabet=400,
                                        show_progress=False)
    tokenizer = train(models.WordPiece(unk_token="[UNK]"), trainer, normalizer, pre_tokenizers.BertPreTokenizer())
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                                                             special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def bert_cased():
    tokenizer = bert(False)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram_trainer(**options):
    return trainers.UnigramTrainer(vocab_size=700, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False, **options)


def t5():
    """Unigram behind white space splits and Metaspace, with sentinels."""
    normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip(False, True)])
    splitter = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(META, "always")])
    tokenizer = train(models.Unigram(), unigram_trainer(), normalizer, splitter)
    tokenizer.add_special_tokens([AddedToken("<extra_id_0>", lstrip=True, rstrip=True, special=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer.decoder = decoders.Metaspace(META, "always")
    return tokenizer


def unigram_bytes():
    """Unigram with byte fallback, accents stripped, first words only marked."""
    normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    learner = train(models.Unigram(), unigram_trainer(), normalizer, pre_tokenizers.Metaspace(META, "first"))
    model = json.loads(learner.to_str())["model"]
    vocab = [tuple(entry) for entry in model["vocab"][:500]] + [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(vocab, model["unk_id"], True))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(META, "first")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(META, "first")])
    return tokenizer


def precompiled():
    """SentencePiece's own normalisation map, made from a few rules."""
    import io, sentencepiece
    rules = "".join(f"{' '.join(f'{ord(c):X}' for c in a)}\t{' '.join(f'{ord(c):X}' for c in b)}\n" for a, b in
                    [("ﬁ", "fi"), ("½", "1/2"), ("é", "e"), ("e\u0301", "e"), ("\u200b", ""), ("①", "1"), ("Å", "A"), ("ß", "ss"), ("\t", " "), ("\n", " "),
                     ("ab", "ba"), ("\u3000", " "), ("ア", "a"), ("각", "gag"), ("\u0301", "")])
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.write(rules)
        file.flush()
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([t for t in corpus() if t and "\0" not in t]), model_writer=out, vocab_size=500, model_type="unigram",
                                                 normalization_rule_tsv=file.name, character_coverage=0.98, hard_vocab_limit=False, minloglevel=2)
    from sentencepiece import sentencepiece_model_pb2 as proto
    model = proto.ModelProto.FromString(out.getvalue())
    vocab = [(p.piece, p.score) for p in model.pieces]
    tokenizer = Tokenizer(models.Unigram(vocab, 0))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(META, "always")
    tokenizer.decoder = decoders.Metaspace(META, "always")
    return tokenizer


def word_level():
    trainer = trainers.WordLevelTrainer(vocab_size=600, special_tokens=["[UNK]"], show_progress=False)
    splitter = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True), pre_tokenizers.Punctuation("merged_with_previous"),
                                        pre_tokenizers.CharDelimiterSplit("x")])
    return train(models.WordLevel(unk_token="[UNK]"), trainer, normalizers.Strip(), splitter)


def splits():
    """Every behaviour of a split, texts as patterns, and a prefix inside words."""
    parts = [pre_tokenizers.Split(",", "merged_with_previous"), pre_tokenizers.Split(Regex(r"[A-Z]"), "merged_with_next"),
             pre_tokenizers.Split("e", "contiguous"), pre_tokenizers.Split(Regex(r"\w+|\d"), "isolated", invert=True),
             pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split(Regex(r"\b(?=[^a])|(?<=o)$"), "isolated")]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>"], limit_alphabet=150, continuing_subword_prefix="##", show_progress=False)
    tokenizer = train(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"), trainer, None, pre_tokenizers.Sequence(parts))
    tokenizer.decoder = decoders.WordPiece("##", cleanup=False)
    return tokenizer


KINDS = [gpt2, llama3, qwen2, gpt4o, deepseek, bloom, falcon, roberta, bytes_normalized, clip, llama2, llama2_new, sentencepiece_unknown,
         bert, bert_cased, t5, unigram_bytes, precompiled, word_level, splits]


def strings_for_merges(text):
    """The older form of merges: "left right"."""
    root = json.loads(text)
    root["model"]["merges"] = [" ".join(pair) for pair in root["model"]["merges"]]
    return json.dumps(root, ensure_ascii=False, separators=(",", ":"))


def mixed_lines():
    random.seed(7)
    pool = [chr(c) for c in [*range(0x20, 0x250), *range(0x300, 0x370), *range(0x600, 0x660), *range(0x900, 0x980), *range(0x1100, 0x1180), *range(0x2000, 0x2070),
                             *range(0x3040, 0x30FF), *range(0x4E00, 0x4E40), *range(0xAC00, 0xAC20), *range(0xFF00, 0xFF60), *range(0x1F600, 0x1F610)]]
    pool += [" "] * 200 + ["\n"] * 20 + list("etaoinshrdlu") * 30 + ["<mask>", "token", " word ", "é", "▁"] * 5
    noise = ["".join(random.choices(pool, k=random.randint(1, 30))).encode() for _ in range(90)]
    noise += [bytes(random.choices(range(256), k=random.randint(1, 20))) for _ in range(25)]
    return [t.encode() for t in PLAIN + WORLD + code_lines()] + BROKEN + noise


def escape(line):
    out, text = "", line
    while text:
        try:
            good, bad = text.decode(), b""
        except UnicodeDecodeError as error:
            good, bad = text[:error.start].decode(), text[error.start:error.start + 1]
        out += "".join(f"\\x{ord(c):02X}" if c < " " or c in "\\\x7f" else c for c in good) + "".join(f"\\x{b:02X}" for b in bad)
        text = text[len(good.encode()) + len(bad):]
    return out


def byte_offsets(line, encoding):
    """The library counts characters of the repaired text; the product counts bytes of the source."""
    places, at = [], 0
    while at < len(line):
        places.append(at)
        for size in range(1, 5):
            try:
                line[at:at + size].decode()
                break
            except UnicodeDecodeError:
                continue
        else:
            size = next(n for n in range(1, 5) if len(line[at:at + n + 1].decode(errors="replace")) > 1 or at + n >= len(line))
        at += size
    places.append(len(line))
    assert len(places) == len(line.decode(errors="replace")) + 1
    return [places[c] for pair in encoding.offsets for c in pair]


def golden_line(tokenizer, line):
    text = line.decode(errors="replace")
    encoding = tokenizer.encode(text)
    hashes = [fnv(pack(byte_offsets(line, encoding), 8))]
    hashes += [fnv(tokenizer.decode(encoding.ids, skip_special_tokens=skip).encode()) for skip in (False, True)]
    return " ".join(map(str, encoding.ids)) + "|" + " ".join(f"{h:016x}" for h in hashes)


def variants_row(kind, tokenizer, lines):
    texts = [line.decode(errors="replace") for line in lines]
    bare = plain = pairs = fnv(b"")
    for text, other in zip(texts, texts[1:] + texts[:1]):
        bare = fnv(pack(tokenizer.encode(text, add_special_tokens=False).ids), bare)
        pairs = fnv(pack(tokenizer.encode(text, other).ids), pairs)
    tokenizer.encode_special_tokens = True
    for text in texts:
        plain = fnv(pack(tokenizer.encode(text).ids), plain)
    tokenizer.encode_special_tokens = False
    return f"{kind} {bare:016x} {plain:016x} {pairs:016x}\n"


def llama2_real(model_path, folder):
    """tokenizer.json of a SentencePiece BPE model: a merge for every way to make a piece of two pieces, best score first."""
    from sentencepiece import SentencePieceProcessor
    target = folder / "llama2.json"
    sp = SentencePieceProcessor(str(model_path))
    vocab = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
    merges = []
    for piece, i in vocab.items():
        pairs = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab]
        merges += [(sp.get_score(i), len(a), len(b), a, b) for a, b in sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))]
    merges.sort(key=lambda m: m[:3], reverse=True)
    tokenizer = Tokenizer(models.BPE(vocab, [(m[3], m[4]) for m in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(META), normalizers.Replace(" ", META)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(META, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.save(str(target), pretty=False)
    return tokenizer


def bert_real(path):
    vocab = {line.rstrip(): i for i, line in enumerate(path.read_text().split("\n")[:-1])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    return tokenizer


def real_rows(name, tokenizer, data, count):
    for path in sorted((data / "text").glob("*.gz")):
        lines = gzip.open(path).read().split(b"\n")[:count]
        hashes, value = [], fnv(b"")
        for i, line in enumerate(lines):
            value = fnv(pack(tokenizer.encode(line.decode(errors="replace")).ids), value)
            if i % 100 == 99 or i == len(lines) - 1:
                hashes.append(f"{value:016x}")
        yield f"{name} {path.name} {len(lines)} {' '.join(hashes)}"


def trained_rows(data):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "text"
        path.write_bytes(gzip.open(data / "text/tinyshakespeare.txt.gz").read())
        for size, special in ((4096, ["<|endoftext|>", "<pad>"]), (300, []), (1000, ["!"])):
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.train([str(path)], trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=ALPHABET, show_progress=False))
            vocab, merges = bpe_parts(tokenizer)
            ordered = "\n".join(sorted(vocab, key=vocab.get)).encode()
            text = "\n".join(" ".join(m) for m in merges).encode()
            yield f"{size} {','.join(special) or '-'} {len(vocab)} {fnv(ordered):016x} {len(merges)} {fnv(text):016x}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "crank-oracle")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--only", default="", help="kinds to make, comma separated")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    lines = mixed_lines()
    variants = ""
    (GOLDEN / "mixed.txt").write_text("".join(escape(line) + "\n" for line in lines))
    for kind in KINDS:
        if options.only and kind.__name__ not in options.only.split(","):
            continue
        text = kind().to_str(pretty=False)
        if kind is gpt2:
            text = strings_for_merges(text)
        (GOLDEN / f"{kind.__name__}.json").write_text(text)
        tokenizer = Tokenizer.from_str(text)
        (GOLDEN / f"{kind.__name__}.ids").write_text("".join(golden_line(tokenizer, line) + "\n" for line in lines))
        variants += variants_row(kind.__name__, tokenizer, lines)
    if options.only:
        return
    (GOLDEN / "variants.txt").write_text(variants)
    if not options.data.is_dir():
        return
    folder = options.data / "tokenizers"
    rows = list(real_rows("gpt2-tokenizer.json", Tokenizer.from_file(str(folder / "gpt2-tokenizer.json")), options.data, 1000))
    rows += real_rows("bert-base-uncased-vocab.txt", bert_real(folder / "bert-base-uncased-vocab.txt"), options.data, 1000)
    rows += real_rows("cache/llama2.json", llama2_real(folder / "llama2-tokenizer.model", options.cache), options.data, 1000)
    for kind in KINDS:
        rows += real_rows(f"golden/{kind.__name__}.json", Tokenizer.from_file(str(GOLDEN / f"{kind.__name__}.json")), options.data, 100)
    (GOLDEN / "real.txt").write_text("\n".join(rows) + "\n")
    (GOLDEN / "trained.txt").write_text("\n".join(trained_rows(options.data)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
