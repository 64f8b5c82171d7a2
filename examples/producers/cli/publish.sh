#!/bin/sh
# publish.sh SUBJECT ID BODY: hands one job to a pool by the nats CLI, and exits 0 once the broker
# holds it. NATS_URL says where that is. Without --no-templates a {{ in the body would be taken for
# a template.
set -eu
exec nats pub --jetstream --no-templates -H "Nats-Msg-Id:$2" "$1" "$3"
