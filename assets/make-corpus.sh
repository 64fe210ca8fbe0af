#!/bin/sh
# make-corpus.sh DATA OUT - the texts that the bundled base model was trained on, one document a paragraph.
#
#   GSM8K (MIT), CommonsenseQA (MIT), SVAMP (MIT), tiny Shakespeare (public domain), WikiText-2 validation and E2E validation
#   (CC BY-SA). Held out: the test parts of GSM8K, WikiText-2 and E2E, and the development part of CommonsenseQA.
set -eu
data=$1; out=$2
mkdir -p "$out"
# One field of each line of JSON, unescaped as far as these files use escapes.
unescape='s/\\n/\n/g; s/\\"/"/g; s/\\u2019/'"'"'/g; s/\\u201[cd]/"/g; s/\\u20ac/EUR /g; s/\\u[0-9a-f]{4}/ /g; s/\\\\/\\/g'
gsm8k() { zcat "$data/text/gsm8k-$1.jsonl.gz" | sed -E 's/^\{"question": "(.*)", "answer": "(.*)"\}$/Question: \1\nAnswer: \2\n/; s/<<[^>]*>>//g; '"$unescape"; }
csqa() { zcat "$data/text/commonsenseqa-$1_rand_split.jsonl.gz" | sed -E 's/.*"stem": ?"([^}]*)"\}.*/\1\n/; '"$unescape"; }
e2e() { zcat "$data/text/e2e-$1.txt.gz" | sed -E 's/\|\|/\n/; s/$/\n/'; }
gsm8k train > "$out/gsm8k.txt"
csqa train > "$out/commonsenseqa.txt"
zcat "$data/text/svamp.json.gz" | sed -nE 's/^ *"Body": "(.*)",$/\1./p; s/^ *"Question": "(.*)",$/\1\n/p' > "$out/svamp.txt"
zcat "$data/text/tinyshakespeare.txt.gz" > "$out/shakespeare.txt"
zcat "$data/text/wikitext2-valid.txt.gz" > "$out/wikitext2.txt"
e2e valid > "$out/e2e.txt"
mkdir -p "$out/held-out"
gsm8k test > "$out/held-out/gsm8k.txt"
csqa dev > "$out/held-out/commonsenseqa.txt"
zcat "$data/text/wikitext2-test.txt.gz" > "$out/held-out/wikitext2.txt"
e2e test > "$out/held-out/e2e.txt"
