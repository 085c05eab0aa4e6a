#!/bin/sh
# Proves that the checked-in object is what the source compiles to; without clang, that neither has changed
# since one made the other.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$here"
clang=${CLANG:-clang}
objdump=${LLVM_OBJDUMP:-llvm-objdump}
note=wirepath_xdp.bpf.built

fail() {
    echo "wirepath_xdp.bpf.o: $1: run \`make bpf\` and commit the result" >&2
    exit 1
}

grep -v '^#' "$note" | sha256sum --check --quiet || fail "source or object changed since the last build"
if ! command -v "$clang" >/dev/null 2>&1; then
    echo "skipped: no clang (source and object are those of the last build)"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
./build.sh "$work/new.o"
if cmp -s "$work/new.o" wirepath_xdp.bpf.o; then
    echo "wirepath_xdp.bpf.o: identical to its source"
    exit 0
fi

# Another release of a compiler may word BTF or symbols differently: then the instructions decide.
"$objdump" -d -r --no-show-raw-insn "$work/new.o" | sed '1,/file format/d' >"$work/new.asm"
"$objdump" -d -r --no-show-raw-insn wirepath_xdp.bpf.o | sed '1,/file format/d' >"$work/old.asm"
if cmp -s "$work/new.asm" "$work/old.asm"; then
    echo "wirepath_xdp.bpf.o: same instructions as its source"
    exit 0
fi
built=$(sed -n 's/^# clang-major //p' "$note")
present=$("$clang" -dumpversion | cut -d. -f1)
if [ "$built" != "$present" ]; then
    echo "skipped: clang $built made the object, here is clang $present, which compiles it otherwise"
    exit 0
fi
diff "$work/old.asm" "$work/new.asm" | head -n 40 >&2 || true
fail "it differs from its source"
