#!/bin/sh
# adding_a_method.sh SOURCE BUILD CMAKE - does what docs/adding-a-method.md says, word for word: the ```c block is the file, the ```sh
# blocks are run in order against an installation. Then what the page promises: a wrong key is told, a stopped run goes on to the same
# bits, and the merged model equals the adapted one.
set -eu
source=$1 build=$2 cmake=$3
page=$source/docs/adding-a-method.md
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
fail() { echo "adding-a-method: $*" >&2; exit 1; }

DESTDIR='' "$cmake" --install "$build" --prefix "$folder/prefix" >"$folder/log" || { cat "$folder/log"; fail "cmake --install failed"; }
PKG_CONFIG_PATH=$(dirname "$(find "$folder/prefix" -name crank.pc)")
PATH=$folder/prefix/bin:$PATH
export PKG_CONFIG_PATH PATH OMP_NUM_THREADS=1
cd "$folder"

# A base model of one layer, from two steps of pretraining, and a text.
cat >tiny.json <<'END'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1000, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
 "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}
END
awk 'BEGIN { for (i = 1; i <= 150; i++) print "Line " i " of a small text: " i " and " i + 1 " make " 2 * i + 1 ", said the " (i % 3 ? "hare" : "fox") "." }' >text.txt
crank train -q model.config=tiny.json data.tokenizer="$source/tests/golden/tokenizers/gpt2.json" data.train=text.txt lowrank.method=none train.steps=2 \
    train.batch=1 output.path=pre >log 2>&1 || { cat log; fail "the base model is not made"; }
mv pre/model base

awk '/^```/ { on = $0 == "```c"; next } on' "$page" >scaling.c
awk '/^```/ { on = $0 == "```sh"; next } on' "$page" >commands.sh
grep -q crank_plugin scaling.c && grep -q 'crank train' commands.sh || fail "the page has lost its code or its commands"
sh -eu commands.sh >out 2>log || { cat out log; fail "a command of the page fails"; }
grep -q 'multiplies every output' out || fail "crank help does not know the plugin's method"

losses=$(grep -oE 'loss[^0-9]*[0-9]+\.[0-9]+' out | tail -2 | grep -oE '[0-9]+\.[0-9]+')
[ "$(echo "$losses" | wc -l)" = 2 ] && [ "$(echo "$losses" | uniq | wc -l)" = 1 ] || { cat out; fail "the merged model's loss is not the adapted one's"; }

# The page's training command with another ending, in another folder.
train() { eval "$(grep 'crank train' commands.sh | sed "s|scaling.so|$1|; s|output.path=run|output.path=$2|") $3"; }
if train scaling.so wrong lowrank.rat=3 2>log; then fail "an unknown option is taken"; fi
grep -q 'rate' log || { cat log; fail "an unknown option is not told with the nearest one"; }

# A plugin that asks for a stop as it is loaded: the first step ends the run, at the same place on every machine.
cat >stopping.c <<'END'
#define crank_plugin register_methods
#include "scaling.c"
#undef crank_plugin
CRANK_API crank_status crank_plugin(crank_context *context);
crank_status crank_plugin(crank_context *context)
{
    crank_request_stop(context);
    return register_methods(context);
}
END
# shellcheck disable=SC2046
cc -shared -fPIC stopping.c -o stopping.so $(pkg-config --cflags crank)
code=0
train stopping.so again "" >out 2>log || code=$?
[ $code = 130 ] || { cat out log; fail "a stopped run ends with $code instead of 130"; }
[ ! -e again/adapter ] || fail "a stopped run leaves a result"
train scaling.so again "" >out 2>log || { cat out log; fail "the stopped run does not go on"; }
grep -q 'resumed from .* at step 1 of 8' log || { cat log; fail "the run did not go on from its checkpoint"; }
cmp run/adapter/adapter_model.safetensors again/adapter/adapter_model.safetensors || fail "the resumed run has other bits"
cmp -s base/model.safetensors merged/model.safetensors && fail "merging changed nothing"
echo "the page holds"
