# The shipped tasks are the ones that the example environment makes.
python3 "$1/examples/environments/guess.py" --tasks | cmp - "$1/examples/environments/guess.jsonl"
