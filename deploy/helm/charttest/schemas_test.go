package charttest_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// What the schemas are made of: Kubernetes' own description of its API, and the definitions of
// the custom kinds. All are Go modules, so that no other source than Go's proxy is needed.
const (
	kubernetesModule   = "k8s.io/kubernetes@v1.33.0"
	kedaModule         = "github.com/kedacore/keda/v2@v2.21.0"
	monitoringPackages = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

// schemaLocation is where kubeconform finds the schema of a kind below a directory.
const schemaLocation = "/{{.ResourceKind}}_{{.Group}}_{{.ResourceAPIVersion}}.json"

// schema is a JSON schema, or a part of one.
type schema = map[string]any

// writeSchemas writes the schema of every kind of Kubernetes, KEDA and the Prometheus operator
// into a directory, and returns it.
func writeSchemas(t *testing.T) string {
	t.Helper()
	dir, crds := t.TempDir(), t.TempDir()
	writeKubernetes(t, dir, filepath.Join(moduleDir(t, kubernetesModule), "api/openapi-spec/swagger.json"))
	// The module with the operator's types lacks the definitions; they are made as the operator
	// makes them.
	goCommand(t, "tool", "controller-gen", "crd", "paths="+monitoringPackages, "output:crd:dir="+crds)
	for _, pattern := range []string{
		filepath.Join(crds, "*.yaml"), filepath.Join(moduleDir(t, kedaModule), "config/crd/bases/keda.sh_*.yaml"),
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no definitions at %s: %v", pattern, err)
		}
		for _, file := range files {
			writeCustom(t, dir, file)
		}
	}
	return dir
}

// goCommand runs the go command, which must succeed, and returns what it prints.
func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr(err))
	}
	return out
}

// moduleDir fetches a module and returns where it is.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	var fetched struct{ Dir string }
	if err := json.Unmarshal(goCommand(t, "mod", "download", "-json", module), &fetched); err != nil {
		t.Fatal(err)
	}
	return fetched.Dir
}

// writeKubernetes writes the definitions of Kubernetes into one file, and one that refers to it
// for each kind.
func writeKubernetes(t *testing.T, dir, swagger string) {
	t.Helper()
	text, err := os.ReadFile(swagger)
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Definitions map[string]schema `json:"definitions"`
	}
	if err := json.Unmarshal(text, &api); err != nil {
		t.Fatal(err)
	}
	// The description says string of these two, and the server takes numbers as well.
	api.Definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = schema{"type": []string{"string", "integer"}}
	api.Definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = schema{"type": []string{"string", "number"}}
	for name, definition := range api.Definitions {
		forbidUnknown(definition)
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			kind := k.(schema)
			writeSchema(t, dir, kind["kind"].(string), kind["group"].(string), kind["version"].(string),
				schema{"$ref": "definitions.json#/definitions/" + name})
		}
	}
	writeJSON(t, filepath.Join(dir, "definitions.json"), schema{"definitions": api.Definitions})
}

// writeCustom writes the schemas of a file with a CustomResourceDefinition.
func writeCustom(t *testing.T, dir, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Group    string `json:"group"`
			Names    struct{ Kind string }
			Versions []struct {
				Name   string `json:"name"`
				Schema struct {
					Open schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, version := range crd.Spec.Versions {
		forbidUnknown(version.Schema.Open)
		writeSchema(t, dir, crd.Spec.Names.Kind, crd.Spec.Group, version.Name, version.Schema.Open)
	}
}

// forbidUnknown makes a schema strict: an object takes no fields but those that are described.
func forbidUnknown(part any) {
	switch part := part.(type) {
	case []any:
		for _, p := range part {
			forbidUnknown(p)
		}
	case schema:
		_, described := part["properties"].(schema)
		_, says := part["additionalProperties"]
		if described && !says && part["x-kubernetes-preserve-unknown-fields"] != true {
			part["additionalProperties"] = false
		}
		for key, p := range part {
			if properties, named := p.(schema); named && key == "properties" {
				for _, property := range properties { // their names are no words of a schema
					forbidUnknown(property)
				}
				continue
			}
			forbidUnknown(p)
		}
	}
}

func writeSchema(t *testing.T, dir, kind, group, version string, s schema) {
	t.Helper()
	if group == "" {
		group = version // as kubeconform names it for the kinds that are in no group
	}
	writeJSON(t, filepath.Join(dir, strings.ToLower(kind)+"_"+group+"_"+version+".json"), s)
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
