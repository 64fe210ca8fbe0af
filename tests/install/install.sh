#!/bin/sh
# install.sh SOURCE BUILD CMAKE - installs into a temporary prefix, looks at what is there, and builds the example in the three ways that
# a user would: pkg-config, find_package with the shared library, find_package with the static one. All three print the same line.
set -eu
source=$1 build=$2 cmake=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
fail() { echo "install: $*" >&2; exit 1; }

DESTDIR="$folder/staged" "$cmake" --install "$build" --prefix /usr >"$folder/log" || { cat "$folder/log"; fail "cmake --install failed"; }
mv "$folder/staged/usr" "$folder/prefix" # every path inside is relative: the prefix may be moved
prefix=$folder/prefix
library=$(dirname "$(find "$prefix" -name libcrank.so)")
for file in bin/crank include/crank/model.h share/crank/assets/demo.yaml share/man/man1/crank.1 share/bash-completion/completions/crank \
    share/zsh/site-functions/_crank share/fish/vendor_completions.d/crank.fish; do
    [ -s "$prefix/$file" ] || fail "$file is missing"
done
stray=$(nm -D --defined-only "$library/libcrank.so" | awk '$3 !~ /^crank_/ { print $3 }')
[ -z "$stray" ] || fail "libcrank.so shows symbols that are not public: $stray"
readelf -d "$library/libcrank.so" | grep -q 'SONAME.*libcrank\.so\.[0-9]' || fail "libcrank.so has no versioned soname"
bash -n "$prefix/share/bash-completion/completions/crank" || fail "the bash completion does not parse"
[ "$("$prefix/bin/crank" --version)" = "crank $(PKG_CONFIG_PATH=$library/pkgconfig pkg-config --modversion crank)" ] || fail "versions differ"

model=$source/tests/golden/models/llama
export LD_LIBRARY_PATH="$library" PKG_CONFIG_PATH="$library/pkgconfig"
# shellcheck disable=SC2046
cc "$source/examples/next_token.c" $(pkg-config --cflags --libs crank) -o "$folder/by_pkg_config"
sed 's/crank::crank)/crank::static)/' "$source/examples/CMakeLists.txt" >"$folder/CMakeLists.txt"
cp "$source/examples/next_token.c" "$folder"
"$cmake" -S "$source/examples" -B "$folder/shared" -DCMAKE_PREFIX_PATH="$prefix" >"$folder/log" 2>&1 && "$cmake" --build "$folder/shared" >>"$folder/log" 2>&1 &&
    "$cmake" -S "$folder" -B "$folder/static" -DCMAKE_PREFIX_PATH="$prefix" >>"$folder/log" 2>&1 && "$cmake" --build "$folder/static" >>"$folder/log" 2>&1 ||
    { cat "$folder/log"; fail "the CMake package does not build the example"; }
want=$("$folder/by_pkg_config" "$model" "$source/tests/golden/adapters/llama_lora")
echo "$want"
case $want in "LlamaForCausalLM with 1 attachments: token "*) ;; *) fail "the example does not print its line" ;; esac
[ "$("$folder/shared/next_token" "$model" "$source/tests/golden/adapters/llama_lora")" = "$want" ] || fail "find_package, shared: another result"
unset LD_LIBRARY_PATH
[ "$("$folder/static/next_token" "$model" "$source/tests/golden/adapters/llama_lora")" = "$want" ] || fail "find_package, static: another result"
echo "installed and linked three ways"
