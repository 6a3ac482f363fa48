# No file over 900 lines, the median under 250; each folder of sources has a README of at most 15 lines.
cd "$1" || exit 1
fail=0
files=$(find env rollout trainer curation services bench tests -name '*.c' -o -name '*.h' -o -name '*.inc' | sort)
big=$(wc -l $files | awk '$2 != "total" && $1 > 900 {print}')
[ -n "$big" ] && { printf 'files over 900 lines:\n%s\n' "$big"; fail=1; }
median=$(wc -l $files | awk '$2 != "total" {print $1}' | sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}')
[ "$median" -ge 250 ] && { printf 'the median file has %s lines\n' "$median"; fail=1; }
for dir in $(find env rollout trainer curation services -name '*.c' -exec dirname {} \; | sort -u); do
    [ -f "$dir/README.md" ] || { printf '%s has no README.md\n' "$dir"; fail=1; continue; }
    [ "$(wc -l < "$dir/README.md")" -le 15 ] || { printf '%s/README.md is over 15 lines\n' "$dir"; fail=1; }
done
exit $fail
