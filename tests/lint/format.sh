# clang-format 14 has nothing to change.
cd "$1" || exit 1
command -v clang-format-14 >/dev/null || { echo "skipped: clang-format-14 is not installed (./run deps lint)"; exit 0; }
files=$(find env rollout trainer curation services bench tests -name '*.c' -o -name '*.h')
bad=$(clang-format-14 --dry-run $files 2>&1 | grep -oE '^[^:]+' | sort | uniq -c)
[ -z "$bad" ] && exit 0
printf 'clang-format would change (./run format):\n%s\n' "$bad"
exit 1
