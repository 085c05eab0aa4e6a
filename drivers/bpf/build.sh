#!/bin/sh
# Compiles the XDP program. The result is checked in: building wirepath needs no clang.
#
# usage: build.sh            makes wirepath_xdp.bpf.o and wirepath_xdp.bpf.built, the note of what made it
#        build.sh <output>   makes the object elsewhere
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
clang=${CLANG:-clang}
strip=${LLVM_STRIP:-llvm-strip}
case ${1:-} in
'') output=$here/wirepath_xdp.bpf.o ;;
/*) output=$1 ;;
*) output=$PWD/$1 ;;
esac

# Compiled from here by relative names, so that the same compiler makes the same bytes wherever the tree lies.
cd "$here"
# -mcpu=v3: 32-bit registers and jumps, which kernels since 5.1 take.
"$clang" --target=bpfel -mcpu=v3 -O2 -g -std=gnu11 -ffreestanding -nostdinc \
    -Wall -Wextra -Werror -Wno-unused-function -fdebug-compilation-dir=. \
    -c wirepath_xdp.bpf.c -o "$output"
# Keeps BTF, drops DWARF, which nobody reads.
"$strip" -g "$output"

if [ -z "${1:-}" ]; then
    {
        echo "# made by build.sh; check.sh compares"
        echo "# clang-major $("$clang" -dumpversion | cut -d. -f1)"
        sha256sum wirepath_xdp.bpf.c kernel.h tables.h transmit.h wirepath_xdp.bpf.o
    } >wirepath_xdp.bpf.built
fi
