#!/bin/sh
# make-base.sh CRANK DATA - makes assets/base, the base model of `crank demo`, from the texts of make-corpus.sh: a byte-level BPE of 4096
# tokens and a Llama of 3.9M parameters, 12M tokens (about five passes). Four minutes on 16 cores with AMX, half an hour on 2.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
crank=$1; data=$2; work=${TMPDIR:-/tmp}/crank-base
"$here/make-corpus.sh" "$data" "$work"
texts="$work/gsm8k.txt,$work/commonsenseqa.txt,$work/svamp.txt,$work/shakespeare.txt,$work/wikitext2.txt,$work/e2e.txt"
"$crank" tokenizer train --vocab 4096 --special '<|end|>' --eos '<|end|>' --output "$work/tokenizer" $(echo "$texts" | tr , ' ')
"$crank" train "$here/base.yaml" "model.config=$here/base/config.json" "data.tokenizer=$work/tokenizer" "data.train=[$texts]" \
    "data.eval=[$work/held-out/gsm8k.txt,$work/held-out/wikitext2.txt]" "output.path=$work/run"
cp "$work/run/model/"* "$here/base/"
