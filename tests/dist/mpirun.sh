#!/bin/sh
# mpirun.sh CRANK SOURCE_FOLDER [cuda]: training shared by several processes, on the CPU or on two GPUs.
#
# The same windows in one process and in two give the same losses to 1e-5, whatever is trained and by which optimiser; a killed
# process ends the job, and the run goes on from its checkpoint with another number of processes; what cannot be shared is refused.
# Skipped (77) without mpirun or the plugin.
crank=$1; source=$2; device=${3:-cpu}; steps=6; build=$(dirname "$crank")
command -v mpirun >/dev/null 2>&1 && [ -e "$build/libcrank-mpi.so" ] || { echo "no mpirun, or crank was built without MPI"; exit 77; }
if [ "$device" != cpu ]; then
    steps=20
    [ "$(nvidia-smi -L 2>/dev/null | wc -l)" -ge 2 ] || { echo "two cards are needed"; exit 77; }
fi
folder=$(mktemp -d "$build/dist.XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1
failed=0

cat > "$folder/llama.json" <<'END'
{"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":1280,"hidden_size":32,"num_hidden_layers":2,
"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":64,"max_position_embeddings":128,"rms_norm_eps":1e-5,
"hidden_act":"silu","tie_word_embeddings":false,"initializer_range":0.1}
END
awk 'BEGIN { n = split("the rank of a matrix is small and learns fast when data are few so train it again", word, " "); draw = 7
             for (row = 0; row < 96; row++) { line = ""; for (i = 0; i < 3 + row * 7 % 16; i++) { draw = (draw * 1103515 + 12345) % 2147483
                 line = line word[1 + draw % n] " " } print line } }' > "$folder/text.txt"

# train PROCESSES OUT WORDS...
train() {
    processes=$1; out=$2; shift 2
    set -- train model.config="$folder/llama.json" data.tokenizer="$source/tests/golden/tokenizers/gpt2.json" data.train="$folder/text.txt" \
        data.context=48 data.document=line output.tensorboard=false output.report=false output.path="$folder/$out" model.device=$device \
        model.compute=f32 train.steps=$steps train.batch=4 train.log_every=1 train.lr=0.01 "$@"
    if [ "$processes" = 1 ]; then "$crank" "$@" > "$folder/$out.log" 2>&1; return; fi
    mpirun --allow-run-as-root --oversubscribe --mca mpi_yield_when_idle 1 --mca btl_vader_single_copy_mechanism none -n "$processes" \
        "$crank" "$@" > "$folder/$out.log" 2>&1
}

# same A B: the steps of both runs, the same losses to 1e-5 of their value
same() {
    sed -n 's/.*"step": *\([0-9]*\).*"train\/loss": *\([-+.e0-9]*\).*/\1 \2/p' "$folder/$1/metrics.jsonl" > "$folder/a"
    sed -n 's/.*"step": *\([0-9]*\).*"train\/loss": *\([-+.e0-9]*\).*/\1 \2/p' "$folder/$2/metrics.jsonl" > "$folder/b"
    paste "$folder/a" "$folder/b" | awk -v name="$2" -v steps=$steps '
        { d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || NF != 4 || d > 1e-5 * $2) bad = 1; if (d > worst) worst = d }
        END { printf "%s: %d steps, largest difference %g\n", name, NR, worst; exit bad || NR != steps }'
}

check() { # name WORDS...
    name=$1; shift
    for each in 1 2; do
        train 1 "$name$each.one" "$@" train.accumulate=$((2 * each)) && train 2 "$name$each.two" "$@" train.accumulate=$each &&
            same "$name$each.one" "$name$each.two" || { echo "FAILED: $name, accumulate $each"; tail -n 5 "$folder/$name$each.one.log" "$folder/$name$each.two.log"; failed=1; }
    done
}
check lora lowrank.method=lora optim.method=adamw lowrank.dropout=0.1
check full lowrank.method=none optim.method=adamw
check smora lowrank.method=smora lowrank.rank=8 lowrank.active=2 lowrank.mu=0.01
check galore lowrank.method=none optim.method=galore optim.rank=4
check inside lowrank.method=none optim.method=adamw train.inside=true train.clip=0
check behind lowrank.method=lora train.overlap=false
check shard lowrank.method=none optim.method=adamw train.shard=optimizer
check shardinside lowrank.method=none optim.method=lion train.shard=optimizer train.inside=true train.clip=0 train.lr=0.001
check shardmuon lowrank.method=none optim.method=muon train.shard=optimizer
check shardpro lowrank.method=lora-pro train.shard=optimizer

# Trees learned by two processes are the same file as by one.
awk 'BEGIN { draw = 7; for (i = 0; i < 2000; i++) { line = ""; for (j = 0; j < 40; j++) { draw = (draw * 1103515 + 12345) % 2147483; v[j] = draw % 1000; line = line " " j ":" v[j] }
             print int((v[2] + v[7]) / 700) " qid:" int(i / 10) line } }' > "$folder/rank.svm"
for words in "tree.num_leaves=31" "tree.objective=regression tree.feature_fraction=0.3 tree.bagging_fraction=0.7 tree.bagging_freq=1 data.categorical=4,5" \
    "tree.grow_policy=oblivious tree.num_leaves=16 data.categorical=4" "tree.objective=multiclass tree.num_class=3 tree.multi_strategy=multi_output_tree tree.num_leaves=8"; do
    "$crank" rank fit "$folder/rank.svm" --out "$folder/one.txt" --quiet tree.num_iterations=20 tree.min_data_in_leaf=30 $words > "$folder/one.log" 2>&1 &&
        mpirun --allow-run-as-root --oversubscribe --mca mpi_yield_when_idle 1 --mca btl_vader_single_copy_mechanism none -n 2 \
            "$crank" rank fit "$folder/rank.svm" --out "$folder/two.txt" --quiet tree.num_iterations=20 tree.min_data_in_leaf=30 $words > "$folder/two.log" 2>&1 &&
        cmp "$folder/one.txt" "$folder/two.txt" || { echo "FAILED: trees, $words"; tail -n 5 "$folder/one.log" "$folder/two.log"; failed=1; }
done

# A run of two processes ends at its checkpoint, and one process goes on to the end with the same losses.
train 2 other lowrank.method=lora train.accumulate=1 train.save_every=3 train.schedule=constant train.warmup_share=0 train.steps=3 &&
    train 1 other lowrank.method=lora train.accumulate=2 train.save_every=3 train.schedule=constant train.warmup_share=0 &&
    train 1 alone lowrank.method=lora train.accumulate=2 train.save_every=3 train.schedule=constant train.warmup_share=0 &&
    same alone other || { echo "FAILED: resume in one process"; tail -n 5 "$folder/other.log"; failed=1; }

# Shares of the optimiser's state: two processes, then one, then two again come to the losses of two that were never stopped, and a
# process plans for its share alone.
words="lowrank.method=none optim.method=adamw train.shard=optimizer train.schedule=constant train.warmup_share=0 train.save_every=2"
train 2 parts $words train.steps=2 && train 1 parts $words train.accumulate=2 train.steps=4 && train 2 parts $words && train 2 whole $words &&
    same whole parts || { echo "FAILED: resume of shares with another number of processes"; tail -n 5 "$folder/parts.log" "$folder/whole.log"; failed=1; }
grep -q "this process's share of" "$folder/whole.log" || { echo "FAILED: the plan does not tell the share"; failed=1; }

# What cannot be shared is refused, with the rule.
refused() { # NAME RULE WORDS...
    name=$1; rule=$2; shift 2
    train 2 "$name" "$@" && { echo "FAILED: $name ran"; failed=1; }
    grep -q "$rule" "$folder/$name.log" || { echo "FAILED: the refusal of $name does not name $rule"; tail -n 5 "$folder/$name.log"; failed=1; }
}
refused shardgalore shard-state lowrank.method=none optim.method=galore train.shard=optimizer
refused sharddylora shard-gradients lowrank.method=dylora train.shard=optimizer

# Each process has a card of its own.
if [ "$device" != cpu ]; then
    cards=$(nvidia-smi -L | wc -l)
    train $((cards + 1)) many lowrank.method=lora && { echo "FAILED: more processes than cards ran"; failed=1; }
    grep -q "$((cards + 1)) processes of this host have $cards cards" "$folder/many.log" || { echo "FAILED: the refusal does not name both numbers"; tail -n 5 "$folder/many.log"; failed=1; }
fi

# A killed process ends the job with a message.
train 2 killed lowrank.method=lora train.steps=1000000 train.save_every=20 train.schedule=constant train.warmup_share=0 &
job=$!
waited=0
until [ -e "$folder/killed/checkpoint" ] || [ $waited -ge 60 ]; do sleep 1; waited=$((waited + 1)); done
victim=$(ps -eo pid,args | awk -v path="output.path=$folder/killed" '$2 ~ /crank$/ && index($0, path) { pid = $1 } END { print pid }')
[ -n "$victim" ] && kill -9 "$victim"
wait $job && { echo "FAILED: a job with a killed process ended well"; failed=1; }
grep -q "signal 9" "$folder/killed.log" || { echo "FAILED: the job does not tell of the killed process"; tail -n 5 "$folder/killed.log"; failed=1; }
exit $failed
