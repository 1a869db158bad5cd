# Runs a block with a stand-in for HubSpot.
: >hubspot.out
node "$SRC/test/receiver/hubspot.mjs" hubspot.jsonl --token "$(sed -n 's/.*HUBSPOT_TOKEN=//p' "$BLOCK")" >hubspot.out &
standin=$!
trap 'kill $standin' EXIT
until grep -q port hubspot.out; do
	kill -0 $standin
	sleep 0.05
done
HUBSPOT_URL="http://127.0.0.1:$(sed 's/[^0-9]//g' hubspot.out)" bash -eu "$BLOCK"
