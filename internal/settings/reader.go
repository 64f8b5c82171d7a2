package settings

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"

	"rollcall/internal/jobs"
)

// Where the value of a setting came from.
const (
	sourceDefault = "default"
	sourceEnv     = "env"
	sourceFile    = "file"
)

// fileSuffix makes the name of the variable that holds the path of a secret's file.
const fileSuffix = "_FILE"

// Setting is one variable as it took effect.
type Setting struct {
	Name string `json:"name"`
	// Value is masked where it is a secret or holds one.
	Value string `json:"value"`
	// Source is default, env or file.
	Source      string `json:"source"`
	Default     string `json:"default"`
	Secret      bool   `json:"secret"`
	Description string `json:"description"`
}

// variable is a field that a variable fills.
type variable struct {
	name, byDefault, desc string
	field                 reflect.Value
}

func (v variable) secret() bool { return v.field.Type() == reflect.TypeFor[jobs.Secret]() }

// variables lists the fields of spec, a pointer to a struct, that carry an envconfig tag, in
// their order and those of structs within.
func variables(spec any) []variable {
	var all []variable
	s := reflect.ValueOf(spec).Elem()
	for i := range s.NumField() {
		f := s.Type().Field(i)
		name := f.Tag.Get("envconfig")
		switch {
		case f.Tag.Get("ignored") == "true":
		case name != "":
			all = append(all, variable{name: name, byDefault: f.Tag.Get("default"), desc: f.Tag.Get("desc"), field: s.Field(i)})
		case f.Type.Kind() == reflect.Struct:
			all = append(all, variables(s.Field(i).Addr().Interface())...)
		}
	}
	return all
}

// Reader fills specs from an environment and notes every fault instead of stopping at the first.
type Reader struct {
	given    map[string]string
	known    map[string]bool
	settings []Setting
	faults   []error
}

// NewReader reads "NAME=value" entries, as os.Environ returns them. An empty value counts as not
// set: compose files and charts pass one for each variable that nobody chose.
func NewReader(environ []string) *Reader {
	r := &Reader{given: map[string]string{}, known: map[string]bool{}}
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); value != "" {
			r.given[name] = value
		}
	}
	return r
}

// Fault notes a fault.
func (r *Reader) Fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf(format, args...))
}

// Fill sets every variable of spec.
func (r *Reader) Fill(spec any) {
	for _, v := range variables(spec) {
		r.known[v.name] = true
		text, source := r.lookup(v)
		if err := firstOf(misquoted(v, text, source), parse(v, text)); err != nil {
			r.Fault("%s is %s: %w", v.name, shown(v, text), err)
			text, source = v.byDefault, sourceDefault
			if err := parse(v, text); err != nil {
				panic(fmt.Sprintf("the default of %s: %v", v.name, err))
			}
		}
		if source == sourceFile {
			v.field.Addr().Interface().(*jobs.Secret).SetFile(r.given[v.name+fileSuffix])
		}
		r.settings = append(r.settings, Setting{
			Name: v.name, Value: mask(v, text), Source: source, Default: v.byDefault, Secret: v.secret(), Description: v.desc,
		})
	}
}

// lookup returns the text of a variable and where it came from.
func (r *Reader) lookup(v variable) (text, source string) {
	value, set := r.given[v.name]
	if v.secret() {
		r.known[v.name+fileSuffix] = true
		path, file := r.given[v.name+fileSuffix]
		switch {
		case set && file:
			r.Fault("%s and %s are both set: keep one", v.name, v.name+fileSuffix)
		case file:
			secret, err := jobs.ReadSecret(path)
			if err != nil {
				r.Fault("%s: %w", v.name+fileSuffix, err)
			}
			return secret.Reveal(), sourceFile
		}
	}
	if set {
		return value, sourceEnv
	}
	return v.byDefault, sourceDefault
}

// parse lets envconfig read text into the field of v.
//
// envconfig 1.4.0 looks in the environment of the process and gives up at the first fault.
// So it gets one field at a time, and the text as that field's default, under a name that no
// environment can hold: names end at the first "=".
func parse(v variable, text string) error {
	if text == "" {
		v.field.SetZero()
		return nil
	}
	spec := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: "Value", Type: v.field.Type(),
		Tag: reflect.StructTag(`envconfig:"=" default:` + strconv.Quote(text)),
	}}))
	err := envconfig.Process("", spec.Interface())
	var fault *envconfig.ParseError
	if errors.As(err, &fault) {
		return explain(v.field.Type(), fault.Err)
	}
	if err != nil {
		return err
	}
	v.field.Set(spec.Elem().Field(0))
	if list, ok := v.field.Interface().([]string); ok {
		for i := range list {
			list[i] = strings.TrimSpace(list[i]) // people write a blank behind a comma
		}
	}
	return nil
}

// explain says what the field wants. Types that read themselves explain themselves.
func explain(t reflect.Type, err error) error {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return errors.New("want a duration with its unit, such as 50ms, 10s or 24h")
	case t.PkgPath() != "":
		return err
	case t.Kind() == reflect.Bool:
		return errors.New("want true or false")
	case t.Kind() == reflect.Int:
		return errors.New("want a whole number")
	case t.Kind() == reflect.Float64:
		return errors.New("want a number, such as 2.5")
	default:
		return err
	}
}

// firstOf returns the first error of two.
func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// misquoted returns what a value holds that was meant for somebody else: quotes that no shell
// took away, and the line end of a secret.
func misquoted(v variable, text, source string) error {
	if source == sourceDefault || len(text) < 2 {
		return nil
	}
	first, last := text[0], text[len(text)-1]
	switch {
	case v.secret() && source == sourceEnv && (last == '\n' || last == '\r'):
		return errors.New("a secret that ends with a line break: echo adds one, printf does not")
	case !v.secret() && first == last && (first == '"' || first == '\''):
		return errors.New("in quotes, which are part of the value here: env files and compose files pass them on; take them away")
	}
	return nil
}

func shown(v variable, text string) string { return strconv.Quote(mask(v, text)) }

// mask hides secrets: whole ones, and user:password and queries in URLs.
func mask(v variable, text string) string {
	if v.secret() {
		return jobs.NewSecret(text).String()
	}
	return jobs.MaskURLs(text)
}

// Note adds the faults of err, each of them if they are joined.
func (r *Reader) Note(err error) { r.faults = append(r.faults, flatten(err)...) }

// Settings lists what was filled so far, in its order.
func (r *Reader) Settings() []Setting { return r.settings }
