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
cp -Rp setup.py pyproject.toml README.md LICENSE sknn tests "$copy"
cd "$copy"
[ -e built ] || find sknn -name '*.so' -delete      # those that came along are not instrumented
CFLAGS="-g -fno-omit-frame-pointer -fsanitize=$sanitizer" LDFLAGS="-fsanitize=$sanitizer" \
    "$python" setup.py --quiet build_ext --inplace --parallel "$(getconf _NPROCESSORS_ONLN)"
touch built

# CPython frees little of what it holds at its end. Reports must reach the exit status of a child
# that a test forks, too, so the first one ends the process.
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1:suppressions=$PWD/tests/tsan.supp
# the sanitizer's addresses must be free, which a kernel that spreads its own widely may not leave
fixed=$(setarch -R true 2>/dev/null && echo "setarch -R" || true)
PYTHONPATH=$PWD LD_PRELOAD="$(gcc -print-file-name=lib$name.so) $(gcc -print-file-name=libstdc++.so)" \
    $fixed "$python" -m pytest -q -p no:cacheprovider --capture=sys \
    tests/kernels tests/test_threads.py
