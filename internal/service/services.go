package service

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"rollcall/internal/jobs"
)

// Ref is one entry of ROLLCALL_SERVICES.
type Ref struct {
	Name string
	URL  string
}

// RequestFilter returns a filter for the subjects that requests to the service go to, false for a service that is
// not on NATS or whose subject is none.
func (r Ref) RequestFilter() (filter string, ok bool) {
	rest, isNATS := strings.CutPrefix(r.URL, natsScheme)
	if !isNATS {
		return "", false
	}
	s, err := parseSubject(rest)
	if err != nil {
		return "", false
	}
	return s.pattern(), true
}

const namePattern = `^[a-z][a-z0-9_-]{0,62}$`

// ErrNoServices is returned when ROLLCALL_SERVICES names none.
var ErrNoServices = errors.New("ROLLCALL_SERVICES is empty; write billing=http://billing:8080/jobs,index=nats://svc.index")

// ParseServices reads ROLLCALL_SERVICES: name=URL pairs separated by commas. Names are
// lower case, begin with a letter and differ also as part of a variable's name, where "-"
// becomes "_". All faults are returned at once, joined, beside the entries that can be read.
// [Config.Validate] checks the URLs.
func ParseServices(list string) ([]Ref, error) {
	valid := regexp.MustCompile(namePattern)
	var refs []Ref
	var faults []error
	variables := map[string]string{}
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		name, raw, found := strings.Cut(entry, "=")
		name, raw = strings.TrimSpace(name), strings.TrimSpace(raw)
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("ROLLCALL_SERVICES: "+format, args...))
		}
		if !found || !valid.MatchString(name) {
			if !found {
				name = entry
			}
			fault("%q: want name=URL, the name as in %s", jobs.Clip(name, 80), namePattern)
			continue
		}
		variable := Variable(name, "")
		switch other, taken := variables[variable]; {
		case taken && other == name:
			fault("%s stands twice", name)
			continue
		case taken:
			fault("%s and %s would share the variables %s…", other, name, variable)
			continue
		}
		variables[variable] = name
		refs = append(refs, Ref{Name: name, URL: raw})
	}
	if len(refs) == 0 && len(faults) == 0 {
		return nil, ErrNoServices
	}
	return refs, errors.Join(faults...)
}
