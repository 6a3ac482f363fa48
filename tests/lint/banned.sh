# Calls that the house does not make, and flags that kill NaN guards.
cd "$1" || exit 1
bad=$(grep -nE '[^_a-zA-Z](strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|rand|srand|gets|sleep|usleep)\(' \
    -r env rollout trainer curation services bench --include=*.c --include=*.h --include=*.inc | grep -v '^\S*:[0-9]*: \*')
bad="$bad$(grep -nE 'Ofast|ffast-math' CMakeLists.txt CMakePresets.json */CMakeLists.txt)"
[ -z "$bad" ] && exit 0
printf '%s\n' "banned:" "$bad"
exit 1
