package settings

import (
	"fmt"
	"strings"
)

// FaultsError lists everything that is wrong with the settings, at once.
type FaultsError struct {
	// Faults each name a variable and how to fix it.
	Faults []error
}

// Error lists the faults, one a line.
func (e *FaultsError) Error() string {
	var b strings.Builder
	if len(e.Faults) == 1 {
		b.WriteString("the settings have a fault:")
	} else {
		fmt.Fprintf(&b, "the settings have %d faults:", len(e.Faults))
	}
	for _, fault := range e.Faults {
		b.WriteString("\n  - " + strings.ReplaceAll(fault.Error(), "\n", "\n    "))
	}
	return b.String()
}

// Unwrap returns the faults.
func (e *FaultsError) Unwrap() []error { return e.Faults }

// Err returns a [*FaultsError] with every fault, nil if there is none.
func (r *Reader) Err() error {
	if len(r.faults) == 0 {
		return nil
	}
	return &FaultsError{Faults: r.faults}
}

// flatten undoes errors.Join, so that faults can be counted and listed.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	var lines []string
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
		lines = append(lines, e.Error())
	}
	if strings.Join(lines, "\n") != err.Error() {
		return []error{err} // one fault with several causes
	}
	return all
}
