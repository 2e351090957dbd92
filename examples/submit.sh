#!/bin/sh
# A job with curl alone: submit, follow its events, fetch the report.
#
#   SECATEUR_URL=http://127.0.0.1:8000 examples/submit.sh MODEL.gguf BLOCKS
set -eu
url=${SECATEUR_URL:-http://127.0.0.1:8000}
model=$1 blocks=$2

# With a key, every request needs the header; without one the list of arguments stays empty.
set --
if [ -n "${SECATEUR_API_KEY:-}" ]; then
    set -- --header "Authorization: Bearer $SECATEUR_API_KEY"
fi

# The Location, which is /jobs/ID, is printed behind the answer. The key makes a repeated request give the same job.
answer=$(curl --silent --show-error --fail-with-body --write-out '\n%header{location}' "$@" \
    --header 'Content-Type: application/json' \
    --header "Idempotency-Key: ${IDEMPOTENCY_KEY:-$(date +%s)-$$}" \
    --data "{
        \"model\": {\"source\": \"local\", \"path\": \"$model\"},
        \"scoring\": {\"criterion\": \"magnitude\"},
        \"pruning\": {\"kind\": \"depth\", \"blocks\": $blocks},
        \"recovery\": {\"kind\": \"none\"}
    }" \
    "$url/jobs") || {
    echo "$answer" >&2 # a refusal says which field is wrong, and what is expected
    exit 1
}
location=$(echo "$answer" | tail -n 1)
echo "job: $url$location"

# The stream ends with the job; -N prints each event as it comes.
curl --silent --show-error --fail-with-body --no-buffer "$@" --header 'Accept: text/event-stream' "$url$location/events"

curl --silent --show-error --fail-with-body "$@" "$url$location/report.md"
