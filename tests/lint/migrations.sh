# A migration that was released never changes: its checksum is kept beside it.
cd "$1/migrations" || exit 1
sha256sum --check --quiet SHA256SUMS || { echo "a migration changed: write a new one instead"; exit 1; }
[ "$(ls ./*.sql | wc -l)" -eq "$(wc -l < SHA256SUMS)" ] || { echo "SHA256SUMS does not list every migration"; exit 1; }
