# The peer's Python: a virtual environment with PyTorch in the folder $1, made when it is not there; prints its interpreter.
set -u
python="$1/bin/python"
"$python" -c 'import torch' 2>/dev/null && { printf '%s\n' "$python"; exit 0; }
say() { printf 'peer: %s\n' "$*" >&2; }
command -v python3 >/dev/null || { say "python3 is not installed (./run deps)"; exit 1; }
say "installing PyTorch into $1 (some gigabytes, once; removed by ./run clean)"
rm -rf "$1"
python3 -m venv "$1" || { say "no virtual environment could be made (Debian: apt-get install python3-venv)"; exit 1; }
"$1/bin/pip" install -q torch >&2 || { say "pip could not install torch: no network, or no index that has it; the rest of the bench runs without --peer"; rm -rf "$1"; exit 1; }
"$python" -c 'import torch' || { say "torch was installed but cannot be imported"; exit 1; }
printf '%s\n' "$python"
