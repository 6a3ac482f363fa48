# Mutable file-scope state: only what is listed here, each with its reason at its place.
cd "$1" || exit 1
bad=$(grep -nE '^static [^(]*(=|;)' -r env rollout trainer curation services --include=*.c --include=*.inc --include=*.h \
    | grep -vE '\bconst\b|_Thread_local|inline|\(' \
    | grep -vE '^services/common/run/log.c:|^services/ctl/watch.c:[0-9]+:static volatile sig_atomic_t')
[ -z "$bad" ] && exit 0
printf '%s\n' "mutable statics:" "$bad"
exit 1
