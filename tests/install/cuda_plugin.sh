#!/bin/sh
# usage: cuda_plugin.sh PLUGIN: what the plugin leaves to the program that loads it are public functions of crank, none of its own.
missing=$(nm -D --undefined-only "$1" | awk '{print $2}' | grep '^_Z' | c++filt | grep -v -E '^(operator |std::|vtable|typeinfo)')
[ -z "$missing" ] && exit 0
echo "$1 needs: $missing"
exit 1
