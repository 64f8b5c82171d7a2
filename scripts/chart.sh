#!/usr/bin/env bash
# Checks the Helm chart: lint, values schema, golden files, every object read strictly into its
# Kubernetes type (all offline, deploy/helm/charttest), and with an Internet connection kubeconform
# against the published schemas, those of KEDA and the Prometheus operator included.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly KUBECONFORM=github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
readonly KUBERNETES=1.33.0
readonly SCHEMAS=https://raw.githubusercontent.com

(cd deploy/helm/charttest && go test -count=1 ./...)

if ! curl --silent --show-error --fail --max-time 10 --output /dev/null \
	"$SCHEMAS/yannh/kubernetes-json-schema/master/v$KUBERNETES-standalone-strict/job-batch-v1.json"; then
	printf '\n!!! kubeconform is LEFT OUT: its schemas are at %s, which does not answer.\n' "$SCHEMAS" >&2
	printf '!!! What was checked instead: every object, strictly, against the Go types of its kind.\n\n' >&2
	exit 0
fi
go run "$KUBECONFORM" -strict -summary -kubernetes-version "$KUBERNETES" \
	-schema-location default \
	-schema-location "$SCHEMAS/datreeio/CRDs-catalog/main/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json" \
	deploy/helm/charttest/testdata/*.golden.yaml
