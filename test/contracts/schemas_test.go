package contracts_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const folder = "../../docs/contracts"

// read returns a file of the contracts as JSON is read, whatever it is written in.
func read(t *testing.T, name string) any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".yaml") {
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		if text, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// closed forbids, in every object of a schema, what the schema does not name. For readers the
// schemas are open; what we write has to be described.
func closed(schema any) any {
	switch s := schema.(type) {
	case map[string]any:
		_, named := s["properties"]
		if _, open := s["additionalProperties"]; named && !open && s["type"] == "object" {
			s["additionalProperties"] = false
		}
		for _, inner := range s {
			closed(inner)
		}
	case []any:
		for _, inner := range s {
			closed(inner)
		}
	}
	return schema
}

// compile returns the schema of a file, or of a place in it ("asyncapi.yaml#/…").
func compile(t *testing.T, place string, change func(any) any) *jsonschema.Schema {
	t.Helper()
	file, inner, _ := strings.Cut(place, "#")
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	doc := read(t, file)
	if object, isObject := doc.(map[string]any); isObject {
		delete(object, "$id") // the file goes by its name here
	}
	if err := c.AddResource("file:///"+file, change(doc)); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("file:///" + file + "#" + inner)
	if err != nil {
		t.Fatalf("%s: %v", place, err)
	}
	return schema
}

func asItIs(schema any) any { return schema }

// decode reads JSON for the validator, which keeps numbers as they are written.
func decode(t *testing.T, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v: %.200s", err, text)
	}
	return v
}

// blocks returns the code of one language in a page.
func blocks(t *testing.T, page, language string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		found = append(found, block)
	}
	return found
}
