package settings

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

const prefix = "ROLLCALL_"

// servicePrefix begins the variables of a single service.
const servicePrefix = prefix + "SVC_"

// RefuseUnknown finds variables that look like ours and are not: a misspelt setting must not
// go unnoticed. services are the names in ROLLCALL_SERVICES, and variableOf names a setting of
// one. If these are not all, a setting of a service that they lack may be one of the others'.
func (r *Reader) RefuseUnknown(services []string, all bool, variableOf func(service, setting string) string) {
	linked := regexp.MustCompile(serviceLink)
	for _, name := range slices.Sorted(maps.Keys(r.given)) {
		if !strings.HasPrefix(name, prefix) || r.known[name] || linked.MatchString(name) {
			continue
		}
		nearest, distance := nearest(name, maps.Keys(r.known))
		nobodys := strings.HasPrefix(name, servicePrefix) && !slices.ContainsFunc(services, func(service string) bool {
			return strings.HasPrefix(name, variableOf(service, ""))
		})
		switch {
		case nobodys && !all:
		case distance <= max(2, len(name)/5):
			r.Fault("%s is unknown: did you mean %s?", name, nearest)
		case nobodys:
			r.Fault("%s belongs to no service in ROLLCALL_SERVICES, which names %s: add the service or unset the variable", name, list(services))
		default:
			r.Fault("%s is unknown, the nearest is %s: 'worker config' lists all", name, nearest)
		}
	}
}

// serviceLink matches the variables that Kubernetes and Docker links set in every container for
// a service called rollcall or rollcall-something. No setting of ours ends so.
const serviceLink = `_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// nearest returns the candidate that takes the fewest edits to reach from name; of several, the
// first in the alphabet.
func nearest(name string, candidates func(func(string) bool)) (best string, distance int) {
	for _, candidate := range slices.Sorted(candidates) {
		if d := edits(name, candidate); best == "" || d < distance {
			best, distance = candidate, d
		}
	}
	return best, distance
}

// edits counts the insertions, deletions, replacements and swaps of neighbours between a and
// b (optimal string alignment).
func edits(a, b string) int {
	above, above2 := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, above[j]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], above2[j-2]+1)
			}
		}
		above2, above = above, row
	}
	return above[len(b)]
}
