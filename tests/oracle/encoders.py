"""Golden vectors and scores: tiny random models with tokenizers, and what sentence-transformers and transformers compute with them.

Usage: python tests/oracle/encoders.py        (needs torch, transformers, sentence-transformers; writes tests/golden/encoders/)

    bi/        a BERT saved by SentenceTransformer: mean pooling, normalised, at most 24 tokens, prompts "query" and "none"
    first/     a RoBERTa saved by SentenceTransformer: first token, a default prompt
    cross/     a BERT saved by CrossEncoder: one output; sigmoid unless told otherwise
    decoder/   a Llama with a byte-level tokenizer
    texts.txt, pairs.jsonl        the rows
    golden.safetensors            NAME [rows, width] f32: vectors of texts, scores of pairs, log-probabilities of answers
    minilm.safetensors            vectors of the texts by the real all-MiniLM-L6-v2, where fetch_minilm.sh has put it into the cache
    cut.json                      pairs of texts cut to a length by the `tokenizers` library: ids and types
Every row is computed alone, in float32 on one thread.
"""
import json, os, shutil
import torch
import transformers as tf
from safetensors.torch import save_file
from sentence_transformers import CrossEncoder, SentenceTransformer, models
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as token_models

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "golden", "encoders")
TEXTS = ["The quick brown fox jumps over the lazy dog.", "", "A short one", "Ships sail where the wind carries them, and the wind goes where it wants to go, over the sea and the hills.",
         "yes", "no or yes? Nobody knows, said the fox to the dog, and the dog was lazy and said nothing at all.", "The dog.", "wind wind wind"]
PAIRS = [["where is the fox?", "The fox is over the hills."], ["dog", "The quick brown fox jumps over the lazy dog, and the dog was lazy and said nothing at all, said the wind."],
         ["Ships sail where the wind carries them, and the wind goes where it wants to go.", "the sea"], ["who knows?", ""],
         ["Ships sail where the wind carries them, over the sea and the hills, said the fox.", "Nobody knows where it wants to go, said the dog to the lazy fox over the hills."]]
TEMPLATE = "Query: {text}\nDocument: {pair}\nRelevant:"

def wordpiece(folder, roberta=False):
    tokenizer = Tokenizer(token_models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS + [t for p in PAIRS for t in p], trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False))
    ends = ("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]"))
    tokenizer.post_processor = processors.RobertaProcessing(*ends) if roberta else processors.BertProcessing(*ends)
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    names = ["input_ids", "attention_mask"] if roberta else ["input_ids", "token_type_ids", "attention_mask"]
    fast.model_input_names = fast.init_kwargs["model_input_names"] = names
    fast.save_pretrained(folder)
    return fast

def bytelevel(folder):
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = [" yes no" * 40, *TEXTS, *[t for p in PAIRS for t in p], *[TEMPLATE] * 40]
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<s>", "</s>"], show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.save_pretrained(folder)
    return fast

def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise * (0.8 if "embed" in name else 0.25) if p.dim() > 1 else 0.1 * noise + (1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0))

def main():
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    golden, size = {}, dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=40)
    work = os.path.join(OUT, "work")

    def saved(model, make):
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        tokenizer = make(work)
        model.save_pretrained(work)
        return tokenizer

    bert = tf.BertModel(tf.BertConfig(vocab_size=96, **size), add_pooling_layer=False).eval()
    randomise(bert, 1)
    saved(bert, wordpiece)
    bi = SentenceTransformer(modules=[m := models.Transformer(work, max_seq_length=24), models.Pooling(m.get_embedding_dimension(), "mean"), models.Normalize()],
                             prompts={"query": "where is ", "none": ""}, device="cpu")
    bi.save(os.path.join(OUT, "bi"), create_model_card=False)
    bi = SentenceTransformer(os.path.join(OUT, "bi"), device="cpu")
    golden["bi"] = torch.stack([bi.encode(t, convert_to_tensor=True) for t in TEXTS])
    golden["bi.query"] = torch.stack([bi.encode(t, prompt_name="query", convert_to_tensor=True) for t in TEXTS])

    roberta = tf.RobertaModel(tf.RobertaConfig(vocab_size=96, type_vocab_size=1, pad_token_id=0, **size), add_pooling_layer=False).eval()
    randomise(roberta, 2)
    saved(roberta, lambda folder: wordpiece(folder, True))
    first = SentenceTransformer(modules=[m := models.Transformer(work, max_seq_length=30), models.Pooling(m.get_embedding_dimension(), "cls")],
                                prompts={"passage": "the sea "}, default_prompt_name="passage", device="cpu")
    first.save(os.path.join(OUT, "first"), create_model_card=False)
    first = SentenceTransformer(os.path.join(OUT, "first"), device="cpu")
    golden["first"] = torch.stack([first.encode(t, convert_to_tensor=True) for t in TEXTS])

    judge = tf.BertForSequenceClassification(tf.BertConfig(vocab_size=96, num_labels=1, **size)).eval()
    randomise(judge, 3)
    tokenizer = saved(judge, wordpiece)
    cross = CrossEncoder(work, device="cpu", max_length=32)
    cross.save_pretrained(os.path.join(OUT, "cross"), create_model_card=False)
    cross = CrossEncoder(os.path.join(OUT, "cross"), device="cpu", max_length=32)
    golden["cross"] = torch.stack([cross.predict(p, convert_to_tensor=True).reshape(1) for p in PAIRS])
    golden["cross.none"] = torch.stack([cross.predict(p, convert_to_tensor=True, activation_fn=torch.nn.Identity()).reshape(1) for p in PAIRS])
    cuts = []
    for limit in [5, 6, 9, 12, 17, 24, 40]:
        for a, b in PAIRS:
            e = {k: v[0] for k, v in tokenizer([a], [b], truncation=True, max_length=limit).items()}  # of rows one by one an empty pair is none
            one = tokenizer(a, truncation=True, max_length=limit)
            cuts.append({"limit": limit, "text": a, "pair": b, "ids": e["input_ids"], "types": e["token_type_ids"], "single": one["input_ids"]})
    json.dump(cuts, open(os.path.join(OUT, "cut.json"), "w"))

    llama = tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=300, num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, **{**size, "max_position_embeddings": 256})).eval()
    randomise(llama, 4)
    tokenizer = saved(llama, bytelevel)
    shutil.copytree(work, os.path.join(OUT, "decoder"))
    answers = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in (" yes", " no")]
    assert all(len(t) == 1 for t in answers), answers
    among, overall = [], []
    for a, b in PAIRS:
        ids = tokenizer(TEMPLATE.replace("{text}", a).replace("{pair}", b), return_tensors="pt").input_ids
        with torch.no_grad():
            logits = llama(ids).logits[0, -1].double()
        chosen = logits[[t[0] for t in answers]]
        among.append(chosen.log_softmax(0).float())
        overall.append((chosen - logits.logsumexp(0)).float())
    golden["decoder"], golden["decoder.vocabulary"] = torch.stack(among), torch.stack(overall)
    ids = [tokenizer(t, return_tensors="pt").input_ids for t in TEXTS]
    with torch.no_grad():
        golden["decoder.last"] = torch.stack([llama.model(i).last_hidden_state[0, -1] for i in ids])

    cached = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "crank", "all-MiniLM-L6-v2")
    if os.path.isdir(cached):
        real = SentenceTransformer(cached, device="cpu")
        save_file({"embedding": torch.stack([real.encode(t, convert_to_tensor=True) for t in TEXTS])}, os.path.join(OUT, "minilm.safetensors"))

    shutil.rmtree(work)
    for folder, _, files in os.walk(OUT):
        for name in files:
            if name in ("README.md", "generation_config.json"):
                os.remove(os.path.join(folder, name))
    open(os.path.join(OUT, "texts.txt"), "w").write("".join(t + "\n" for t in TEXTS))
    open(os.path.join(OUT, "pairs.jsonl"), "w").write("".join(json.dumps({"text": a, "text_pair": b}) + "\n" for a, b in PAIRS))
    save_file({k: v.detach().float().contiguous() for k, v in golden.items()}, os.path.join(OUT, "golden.safetensors"))

main()
