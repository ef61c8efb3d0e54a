#!/bin/sh
# sanitize.sh tsan|asan PYTHON: build a copy of the package with a sanitizer of GCC, run the tests
# of kernels and threads in it, and fail on any report. Linux; `make tsan` and `make asan` call it.
set -eu
name=$1 python=$2
copy=build/$name
case $name in
    tsan) sanitizer=thread ;;
    asan) sanitizer=address ;;
esac

mkdir -p "$copy"
tar -c --exclude='*.so' setup.py pyproject.toml README.md LICENSE sknn tests | tar -x -C "$copy"
cd "$copy"
flags="-g -fno-omit-frame-pointer -fsanitize=$sanitizer"
CFLAGS=$flags CXXFLAGS=$flags LDFLAGS=-fsanitize=$sanitizer \
    "$python" setup.py --quiet build_ext --inplace --parallel "$(getconf _NPROCESSORS_ONLN)"
grep -q "__${name}_" sknn/_kernels/cpu/executor.*.so || { echo "not instrumented" >&2; exit 1; }

# CPython frees little of what it holds at its end. Reports must reach the exit status of a child
# that a test forks, too, so the first one ends the process.
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1
# OpenBLAS is not built for ThreadSanitizer, which does not see how its own threads wait
export OPENBLAS_NUM_THREADS=1
# the sanitizer's addresses must be free, which a kernel that spreads its own widely may not leave
fixed=$(setarch -R true 2>/dev/null && echo "setarch -R" || true)
# left out: the test that limits memory, without which a sanitizer cannot go on either
PYTHONPATH=$PWD LD_PRELOAD="$(gcc -print-file-name=lib$name.so) $(gcc -print-file-name=libstdc++.so)" \
    $fixed "$python" -m pytest -q -p no:cacheprovider --capture=sys \
    --deselect tests/test_threads.py::test_after_a_thread_was_refused \
    tests/kernels tests/test_threads.py
