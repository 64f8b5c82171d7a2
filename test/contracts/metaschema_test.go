package contracts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// specs is the package that holds the schema of AsyncAPI itself.
const specs = "@asyncapi/specs@6.11.1"

// TestTheDocumentIsAsyncAPI holds the document against the schema that AsyncAPI 3.0.0 publishes.
func TestTheDocumentIsAsyncAPI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pack := exec.CommandContext(t.Context(), "sh", "-c", "npm pack --silent "+specs+" && tar xzf *.tgz package/schemas/3.0.0.json")
	pack.Dir = dir
	if out, err := pack.CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: whether asyncapi.yaml is AsyncAPI; npm did not give %s: %v\n%s", specs, err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "package/schemas/3.0.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource("file:///asyncapi.json", decode(t, text)); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("file:///asyncapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(read(t, "asyncapi.yaml")); err != nil {
		t.Error(err)
	}
	broken, _ := read(t, "asyncapi.yaml").(map[string]any)
	delete(broken, "info")
	if schema.Validate(broken) == nil {
		t.Error("a document without info passes")
	}
}
