#!/bin/sh
# Everything that must hold before a change lands: installs what is missing, checks format and includes, builds with
# gcc and clang with warnings as errors, runs all tests, and the same under sanitizers.
#
#   sh eval/check.sh    from anywhere; builds in build-check/ of the project; needs no network once the packages are there
set -eu
cd "$(dirname "$0")/.."
begin=$(date +%s)
jobs=$(nproc)

say() { printf '\n== %s (%d s)\n' "$*" $(($(date +%s) - begin)); }

# [only=TARGET] build NAME CMAKE-ARGUMENTS...
build() {
    folder=build-check/$1
    shift
    cmake -S . -B "$folder" -DT2T_WERROR=ON "$@" >"$folder.log" 2>&1 || { cat "$folder.log"; exit 1; }
    cmake --build "$folder" -j "$jobs" ${only:+--target "$only"} >"$folder.log" 2>&1 || { cat "$folder.log"; exit 1; }
}

# run FOLDER CTEST-ARGUMENTS...
run() {
    folder=build-check/$1
    shift
    ctest --test-dir "$folder" --output-on-failure --no-tests=error "$@"
}

sh eval/install.sh check
mkdir -p build-check

say "format and includes"
# Other versions of clang-format break lines elsewhere.
if clang-format --version | grep -q 'version 14\.'; then
    find eval layers loaders vit weights -name '*.[ch]' -print0 -o -name '*.cu' -print0 -o -name '*.cuh' -print0 -o -name '*.cpp' -print0 | xargs -0 clang-format --dry-run -Werror
else
    echo "format not checked: it is clang-format 14's, here is $(clang-format --version)"
fi
sh eval/check_includes.sh

say "gcc, warnings as errors, all tests"
build gcc -DCMAKE_C_COMPILER=gcc
run gcc -j "$jobs"

say "all tests again with each instruction set that this processor has, but for those that run none of its kernels"
for level in c avx2 avx512 avx512_bf16 amx_bf16; do
    if T2TVIT_CPU=$level build-check/gcc/eval/t2tvit-classify --version >/dev/null 2>&1; then
        echo "T2TVIT_CPU=$level"
        T2TVIT_CPU=$level run gcc -E 'emulated|cuda|cudnn|gpu|convert|corpus' -j "$jobs" --quiet
    fi
done

say "the demo on a few pictures, and the README's first lines"
sh eval/demo.sh 24
sh eval/check_readme.sh

say "clang, warnings as errors, all tests"
build clang -DCMAKE_C_COMPILER=clang -DCMAKE_CUDA_ARCHITECTURES=90
run clang -j "$jobs" -E 'golden_models|cuda_faults|cuda_ptx'

say "gcc, address and undefined sanitizers, all tests"
build address -DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=RelWithDebInfo -DT2T_SANITIZE=address,undefined
# The OpenMP runtime and oneDNN keep a little for the life of the process; everything else must be freed.
UBSAN_OPTIONS=print_stacktrace=1 run address

say "gcc, thread sanitizer, the batch loader and the CUDA kernels in emulation"
build thread -DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=RelWithDebInfo -DT2T_SANITIZE=thread
run thread -R '^(batch_loader|cuda_operations|cuda_forwards|cuda_faults)'

say "clang, memory sanitizer, the CUDA kernels in emulation"
if ctest --test-dir build-check/gcc -N -R '^cuda_operations$' | grep -q 'Total Tests: 1'; then
    only=test_cuda_operations build memory -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo -DT2T_SANITIZE=memory
    run memory -R '^cuda_(operations|faults)'
else
    echo "the CUDA kernels are not checked: no headers of CUDA, or no cuBLASLt"
fi

say "all checks passed"
