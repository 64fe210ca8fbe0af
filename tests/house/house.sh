#!/bin/sh
# house.sh SOURCE_FOLDER - the rules of the house that a machine can check. Prints "file:line: rule" for each breach; fails on any.
#
#   1. no source file is longer than 600 lines
#   2. an include goes down the floors (docs/architecture.md), or sideways where `sideways` below says so
#   3. the library never exits and never prints: both belong to src/cli
#   4. no words that mark unfinished work
#   5. no paths of one machine, no hosts of package registries
set -eu
cd "$1"
found=$(mktemp)
trap 'rm -f "$found"' EXIT INT TERM

sources() { find src include tests bench examples -type f \( -name '*.c' -o -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.sh' -o -name '*.py' \) 2>/dev/null; }
texts() {
    find src include tests bench examples docs cmake recipes assets -type f ! -path 'tests/golden/*' ! -path 'tests/fuzz/corpus*' \
        ! -path 'tests/house/*' \( -name '*.c' -o -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.sh' -o -name '*.py' -o -name '*.md' \
        -o -name '*.txt' -o -name '*.cmake' -o -name '*.in' -o -name '*.yaml' \) 2>/dev/null
    ls CMakeLists.txt Makefile README.md CHANGELOG.md CONTRIBUTING.md 2>/dev/null || :
}

sources | while read -r file; do
    awk -v limit=600 'END { if (NR > limit) printf "%s:%d: a file has at most %d lines: split it by idea\n", FILENAME, NR, limit }' "$file"
done >>"$found"

find src include -type f \( -name '*.c' -o -name '*.h' -o -name '*.cu' \) | xargs awk '
    BEGIN {
        n = split("base:0 tensor:10 device:10 dist:10 linalg:20 data:20 graph:30 linear:40 loss:40 metric:40 text:40 vector:40 " \
                  "lowrank:45 optim:45 tree:45 click:45 rl:45 nn:50 model:60 task:70 rank:70 serve:80 lab:80 cli:90", rooms, " ")
        for (i = 1; i <= n; i++) { split(rooms[i], pair, ":"); floor[pair[1]] = pair[2] }
        n = split("base:base option:base random:base recipe:base tensor:tensor device:device operations:device tokenizer:data " \
                  "graph:graph ops:graph linear:linear loss:loss optim:optim model:model adapter:model plugin:task linalg:linalg metric:metric tree:tree", headers, " ")
        for (i = 1; i <= n; i++) { split(headers[i], pair, ":"); home[pair[1] ".h"] = pair[2] }
        n = split("device>tensor dist>tensor dist>device loss>metric lab>serve data>linalg", pairs, " ")
        for (i = 1; i <= n; i++) sideways[pairs[i]] = 1
    }
    function room_of(path, part) {
        sub(/^(src|include)\//, "", path)
        if (split(path, part, "/") < 2) return ""
        return part[1] == "crank" ? home[part[2]] : part[1]
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        split($0, quoted, "\"")
        target = quoted[2]
        if (target !~ /\//) next          # beside the file: its own room
        from = room_of(FILENAME); to = room_of(target)
        if (target ~ /\.pb-c\.h$/) next   # made by protoc
        if (!(to in floor) || !(from in floor))
            printf "%s:%d: no floor is known for %s: give it one in tests/house/house.sh\n", FILENAME, FNR, to in floor ? FILENAME : target
        else if (from != to && floor[to] >= floor[from] && !((from ">" to) in sideways))
            printf "%s:%d: %s/ may not include %s (floor %g under floor %g)\n", FILENAME, FNR, from, target, floor[from] / 10, floor[to] / 10
    }' >>"$found"

# Comments and texts are taken out first, so that only calls are seen.
find src include -type f \( -name '*.c' -o -name '*.h' \) ! -path 'src/cli/*' | xargs awk '
    FNR == 1 { inside = 0 }
    {
        line = $0
        gsub(/\\./, "", line)
        gsub(/"[^"]*"/, "\"\"", line)
        code = ""
        while (line != "") {
            if (inside) {
                at = index(line, "*/")
                if (!at) break
                line = substr(line, at + 2); inside = 0
            } else {
                at = index(line, "/*")
                if (!at) { code = code line; break }
                code = code substr(line, 1, at - 1); line = substr(line, at + 2); inside = 1
            }
        }
        sub(/\/\/.*/, "", code)
        code = " " code
        if (code ~ /[^A-Za-z0-9_.>](exit|_exit|_Exit|quick_exit|abort)[ \t]*\(/) printf "%s:%d: the library never exits\n", FILENAME, FNR
        if (code ~ /[^A-Za-z0-9_.>](printf|vprintf|puts|putchar|perror)[ \t]*\(/ || code ~ /[^A-Za-z0-9_](fprintf|vfprintf|fputs|fputc|fwrite)[ \t]*\(.*std(out|err)[^A-Za-z0-9_]/)
            printf "%s:%d: the library never prints\n", FILENAME, FNR
    }' >>"$found"

# The words are put together here, so that this file is no breach of its own rule.
unfinished="$(printf 'TO%s|FIX%s|XX%s|HA%s' DO ME X CK)"
texts | xargs grep -nwE "$unfinished" | sed -E 's/^([^:]*:[0-9]+):.*/\1: a word that marks unfinished work/' >>"$found" || :
texts | xargs grep -nE '(^|[^A-Za-z0-9_.])/(home|root|Users|work|opt|mnt)/[A-Za-z0-9]' | sed -E 's/^([^:]*:[0-9]+):.*/\1: a path of one machine/' >>"$found" || :
texts | xargs grep -nE 'pypi\.org|pythonhosted\.org|npmjs\.|crates\.io|deb\.debian\.org|archive\.ubuntu\.com|proxy\.golang\.org|anaconda\.org|docker\.io|ghcr\.io|artifactory' |
    sed -E 's/^([^:]*:[0-9]+):.*/\1: the host of a package registry/' >>"$found" || :

if [ -s "$found" ]; then
    sort "$found"
    echo "$(wc -l <"$found") breaches of the house rules"
    exit 1
fi
echo "the house rules hold: $(sources | wc -l) source files"
