# SQL words live in the store and in migrations.
cd "$1" || exit 1
bad=$(grep -nE '"[^"]*\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\b [a-z(*$]' -r services env rollout trainer curation --include=*.c --include=*.h \
    | grep -v '^services/common/store/' | grep -v '^services/common/run/postgres')
[ -z "$bad" ] && exit 0
printf '%s\n' "SQL outside the store:" "$bad"
exit 1
