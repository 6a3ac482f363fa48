# Which folder may include what (STYLE.md, layering).
cd "$1" || exit 1
bad=$(grep -nE '^#include *[<"](zmq|libpq-fe|curl/|microhttpd|uv\.h|msgpack|zstd|services/(common/(wire|bus|store|web|run|job)|env|rollout|data|trainer|gateway|ctl))' \
    -r env rollout trainer curation services/common/base --include=*.c --include=*.h --include=*.inc)
bad="$bad$(grep -nE '^#include *<zmq' -r services --include=*.c --include=*.h | grep -v '^services/common/bus/')"
bad="$bad$(grep -nE '^#include *<libpq' -r services --include=*.c --include=*.h | grep -v '^services/common/store/')"
bad="$bad$(grep -nE '^#include *<microhttpd' -r services --include=*.c --include=*.h | grep -v '^services/common/web/')"
[ -z "$bad" ] && exit 0
printf '%s\n' "includes that the layering forbids:" "$bad"
exit 1
