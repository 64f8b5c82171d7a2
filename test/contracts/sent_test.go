package contracts_test

import (
	"slices"
	"strings"
	"testing"
)

// notSent are places of the documents that this traffic has no example of, and why.
var notSent = map[string]string{
	"eventHeaders/traceparent":                   "traces are off",
	"batch-event.schema.json/traceparent":        "traces are off",
	"dead-letter.schema.json/Rollcall-Truncated": "internal/bus tests letters that are cut",
	"replyHeaders/Nats-Service-Error":            "the services' own",
	"replyHeaders/Nats-Service-Error-Code":       "the services' own",
	"replyHeaders/Retry-After":                   "the services' own",
}

// everythingIsSent holds the documents against the traffic the other way: what they name and nobody
// ever sends is a name that is spelled wrongly, or a field that is gone. The caller holds mu.
func (tr *traffic) everythingIsSent(t *testing.T) {
	t.Helper()
	doc := read(t, "asyncapi.yaml")
	sent := map[string]map[string]bool{} // names by the schema
	note := func(schema string, v any) {
		if sent[schema] == nil {
			sent[schema] = map[string]bool{}
		}
		names(v, sent[schema])
	}
	list, _ := at(doc, "channels").(map[string]any)
	for name, channel := range list {
		messages, _ := at(channel, "messages").(map[string]any)
		for _, message := range messages {
			ref, _ := at(message, "$ref").(string)
			body := at(doc, "components", "messages", strings.TrimPrefix(ref, "#/components/messages/"))
			for _, m := range tr.messages[name] {
				for _, schema := range schemasOf(at(body, "headers")) {
					note(schema, headers("", m))
				}
				for _, schema := range schemasOf(at(body, "payload")) {
					note(schema, decode(t, m.Data))
				}
			}
		}
	}
	for schema, have := range sent {
		described := at(doc, "components", "schemas", schema)
		if described == nil {
			described = read(t, schema)
		}
		for _, name := range properties(described) {
			if _, excused := notSent[schema+"/"+name]; have[name] == excused {
				t.Errorf("%s: %s is sent: %v, excused: %v", schema, name, have[name], excused)
			}
		}
	}
}

// schemasOf returns the components and files that a message refers to.
func schemasOf(part any) (all []string) {
	if file, found := at(part, "schema", "$ref").(string); found {
		file, _, _ = strings.Cut(strings.TrimPrefix(file, "./"), "#")
		return []string{file}
	}
	refs, _ := at(part, "allOf").([]any)
	for _, ref := range append(refs, part) {
		if name, found := at(ref, "$ref").(string); found {
			all = append(all, strings.TrimPrefix(name, "#/components/schemas/"))
		}
	}
	return all
}

// names collects the names of all members of a document.
func names(v any, into map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, inner := range v {
			names(inner, into)
		}
	case map[string]any:
		for name, inner := range v {
			into[name] = true
			names(inner, into)
		}
	}
}

// properties lists the names that a schema describes, wherever in it.
func properties(schema any) (all []string) {
	switch s := schema.(type) {
	case map[string]any:
		for key, inner := range s {
			if described, _ := inner.(map[string]any); key == "properties" {
				for name := range described {
					all = append(all, name)
				}
			}
			all = append(all, properties(inner)...)
		}
	case []any:
		for _, inner := range s {
			all = append(all, properties(inner)...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
