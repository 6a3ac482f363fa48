# Every header compiles alone.
cd "$1" || exit 1
fail=0
includes=$(pkg-config --cflags libzmq libuv libpq msgpack jansson libmicrohttpd libcurl check 2>/dev/null)
for header in $(find env rollout trainer curation services tests/support -name '*.h' ! -name 'undef.h' ! -name '*_impl.h'); do
    grep -q 'include guard: included once' "$header" && continue
    grep -q '#ifndef PAL_' "$header" || continue
    printf '#include "%s"\n' "$header" | cc -std=c11 -D_GNU_SOURCE -DPAL_VERSION='""' -I. $includes -fsyntax-only -x c - || { echo "$header does not compile alone"; fail=1; }
done
exit $fail
