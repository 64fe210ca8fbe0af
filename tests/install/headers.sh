#!/bin/sh
# headers.sh SOURCE - every public header is compiled alone, as C and as C++.
set -eu
for header in "$1"/include/crank/*.h; do
    name=crank/$(basename "$header")
    printf '#include "%s"\n#include "%s"\nint main(void) { return 0; }\n' "$name" "$name" | cc -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$1/include" -fsyntax-only -x c - ||
        { echo "$name is no C11 header of its own"; exit 1; }
    printf '#include "%s"\nint main() { return 0; }\n' "$name" | c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -I"$1/include" -fsyntax-only -x c++ - ||
        { echo "$name is no C++11 header of its own"; exit 1; }
done
echo "each header stands alone in C and C++"
