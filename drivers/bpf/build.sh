#!/bin/sh
# Compiles the XDP program. The result is checked in: building wirepath needs no clang.
# usage: build.sh [output]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
output=${1:-$here/wirepath_xdp.bpf.o}
clang=${CLANG:-clang}
strip=${LLVM_STRIP:-llvm-strip}

# -mcpu=v3: 32-bit registers and jumps, which kernels since 5.1 take. The prefix maps keep the builder's paths
# out of the object, so that the same compiler makes the same bytes everywhere.
"$clang" --target=bpfel -mcpu=v3 -O2 -g -std=gnu11 -ffreestanding -nostdinc \
    -Wall -Wextra -Werror -Wno-unused-function \
    -ffile-prefix-map="$here"=. -fdebug-compilation-dir=. \
    -c "$here/wirepath_xdp.bpf.c" -o "$output"
# Keeps BTF, drops DWARF, which nobody reads.
"$strip" -g "$output"
