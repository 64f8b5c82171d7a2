package charttest_test

import (
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/yannh/kubeconform/pkg/validator"
)

// TestKubeconformHasNothingToSay is `kubeconform -strict` over every object of every example.
func TestKubeconformHasNothingToSay(t *testing.T) {
	t.Parallel()
	v, err := validator.New([]string{writeSchemas(t) + schemaLocation}, validator.Opts{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]bool{}
	for _, example := range examples {
		for name, content := range rendered(t, example) {
			if strings.HasSuffix(name, "NOTES.txt") {
				continue
			}
			for _, r := range conform(v, content) {
				if r.Status != validator.Valid {
					t.Errorf("%s: %s: %v", example, name, r.Err)
				}
				signature, err := r.Resource.Signature()
				if err != nil {
					t.Fatal(err)
				}
				checked[signature.Kind] = true
			}
		}
	}
	for kind := range kinds() {
		if !checked[kind] {
			t.Errorf("no %s was checked", kind)
		}
	}
	full := rendered(t, "full")
	for _, mistake := range []struct{ template, right, wrong string }{
		{"deployment", "terminationGracePeriodSeconds:", "terminationGracePeriod:"},
		{"deployment", "containerPort: 8080", `containerPort: "8080"`},
		{"scaledobject", "pollingInterval:", "pollInterval:"},
		{"podmonitor", "podMetricsEndpoints:", "endpoints:"},
		{"prometheusrule", "alert: RollcallPanic", "alert: 7"},
	} {
		good := full["rollcall/templates/"+mistake.template+".yaml"]
		bad := strings.Replace(good, mistake.right, mistake.wrong, 1)
		if bad == good {
			t.Errorf("%s has no %q", mistake.template, mistake.right)
		}
		if r := conform(v, bad); len(r) != 1 || r[0].Status != validator.Invalid {
			t.Errorf("%s: kubeconform says %+v to %q", mistake.template, r, mistake.wrong)
		}
	}
}

// conform checks a manifest, without the empty documents in it.
func conform(v validator.Validator, manifest string) (found []validator.Result) {
	for _, r := range v.Validate("-", io.NopCloser(strings.NewReader(manifest))) {
		if r.Status != validator.Empty {
			found = append(found, r)
		}
	}
	return found
}

// stderr is what a command said before it failed.
func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}
