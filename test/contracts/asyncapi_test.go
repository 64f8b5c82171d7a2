package contracts_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// at follows keys into a document.
func at(doc any, keys ...string) any {
	for _, key := range keys {
		object, _ := doc.(map[string]any)
		doc = object[key]
	}
	return doc
}

// several are parameters that may stand for more than one token.
var several = map[string]bool{"{type}": true, "{subject}": true}

// addresses returns the channels with an address, as patterns of NATS.
func addresses(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	channels, _ := at(read(t, "asyncapi.yaml"), "channels").(map[string]any)
	for name, channel := range channels {
		address, has := at(channel, "address").(string)
		if !has {
			continue
		}
		tokens := strings.Split(address, ".")
		for i, word := range tokens {
			switch {
			case several[word] && i == len(tokens)-1:
				tokens[i] = ">"
			case strings.HasPrefix(word, "{"):
				tokens[i] = "*"
				if at(channel, "parameters", strings.Trim(word, "{}")) == nil {
					t.Errorf("channel %s does not describe %s", name, word)
				}
			}
		}
		all[name] = strings.Join(tokens, ".")
	}
	return all
}

// contract is what the messages of a channel must be like; nil = anything.
type contract struct{ headers, payload *jsonschema.Schema }

// channels compiles the schemas of every channel, closed to what they do not name.
func channels(t *testing.T) map[string]contract {
	t.Helper()
	doc := read(t, "asyncapi.yaml")
	all := map[string]contract{}
	list, _ := at(doc, "channels").(map[string]any)
	for name, channel := range list {
		messages, _ := at(channel, "messages").(map[string]any)
		for _, message := range messages {
			ref, _ := at(message, "$ref").(string)
			key := strings.TrimPrefix(ref, "#/components/messages/")
			body := at(doc, "components", "messages", key)
			var c contract
			if file, found := at(body, "payload", "schema", "$ref").(string); found {
				c.payload = compile(t, strings.TrimPrefix(file, "./"), open(file))
			}
			if file, found := at(body, "headers", "schema", "$ref").(string); found {
				c.headers = compile(t, strings.TrimPrefix(file, "./"), closedLetter)
			} else if at(body, "headers") != nil {
				c.headers = compile(t, "asyncapi.yaml#/components/messages/"+key+"/headers", closedHeaders)
			}
			all[name] = c
		}
	}
	return all
}

// open leaves the schema of replies as it is: those are not ours.
func open(file string) func(any) any {
	if strings.Contains(file, "reply") {
		return asItIs
	}
	return closed
}

// closedHeaders closes the headers that are all ours.
func closedHeaders(doc any) any {
	for _, name := range []string{"callHeaders", "eventCallHeaders", "plainCallHeaders", "eventHeaders"} {
		headers, _ := at(doc, "components", "schemas", name).(map[string]any)
		headers["additionalProperties"] = false
	}
	return doc
}

// closedLetter closes the headers of a dead letter, whose others are those of its job.
func closedLetter(schema any) any {
	letter, _ := schema.(map[string]any)
	letter["additionalProperties"] = false
	return letter
}

// TestTheSubjectsAreThoseOfTheCode: each function and constant of internal/bus/subjects.go is either
// an address of the document, or named here as something else.
func TestTheSubjectsAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	later, isJob := bus.DueSubject("jobs.x")
	if !isJob {
		t.Fatal("jobs.x cannot be delayed")
	}
	public := map[string]string{ // channel -> a subject that the code makes
		"later": bus.LaterSubject("x"), "schedule": bus.ScheduleSubject("x"), "debounce": bus.DebounceSubject("x"), "due": later,
		"storedBatchEvents": bus.EventSubject("x", "x", "x"), "storedSetEvents": bus.SetEventSubject("x", jobs.SetOutcome("x"), "x"),
		"batchEvents": bus.BatchSubject("x", "x", "x"), "deadLetters": bus.DeadSubject("x", "x"),
		"archivedBatchEvents": strings.ReplaceAll(bus.HistoryFilter("x"), "*", "x"),
		"setEvents":           strings.ReplaceAll(bus.SetOf("x", "x"), "*", "x"), "jobs": delayed(t, later),
	}
	got := map[string]string{}
	for name, pattern := range addresses(t) {
		got[name] = strings.NewReplacer("*", "x", ">", "x").Replace(pattern)
	}
	if diff := cmp.Diff(public, got); diff != "" {
		t.Errorf("subjects of the code and of asyncapi.yaml differ (-code +document):\n%s", diff)
	}
	known := strings.Fields(`LaterSubject ScheduleSubject DebounceSubject DueSubject DelayedSubject EventSubject SetEventSubject BatchSubject DeadSubject SetOf
		SetEventsOf EventsFilter BatchesFilter NextSubject SubjectsDue
		StreamDone StreamDead StreamLater EventPrefix SetEventPrefix HeaderSchedule HeaderScheduleTarget HeaderScheduleZone`)
	for _, name := range exported(t, "../../internal/bus/subjects.go") {
		if !contains(known, name) {
			t.Errorf("internal/bus/subjects.go has got %s: add it to asyncapi.yaml and to this test", name)
		}
	}
}

func delayed(t *testing.T, due string) string {
	t.Helper()
	subject, ok := bus.DelayedSubject(due)
	if !ok {
		t.Fatalf("%s leads nowhere", due)
	}
	return subject
}

func contains(list []string, word string) bool {
	for _, w := range list {
		if w == word {
			return true
		}
	}
	return false
}

// exported returns the exported names that a file declares.
func exported(t *testing.T, file string) (names []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range parsed.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			names = append(names, d.Name.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if value, ok := spec.(*ast.ValueSpec); ok {
					for _, name := range value.Names {
						if name.IsExported() {
							names = append(names, name.Name)
						}
					}
				}
			}
		}
	}
	return names
}
