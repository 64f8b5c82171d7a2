package jobs

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// digestLength is that of a digest of settings in hexadecimal digits: enough to distinguish the
// settings of one pool's replicas apart.
const digestLength = 12

// DigestSettings sums up settings, by their names, in one word. Equal settings have equal digests.
func DigestSettings(settings map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(h, "%q=%q\n", name, settings[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:digestLength]
}

// Difference is a setting in which the replicas of a pool differ.
type Difference struct {
	Setting string `json:"setting"`
	// Values are the different ones, each with the replicas that have it, the most common first.
	Values []DifferentValue `json:"values"`
}

// DifferentValue is one value of a setting in which replicas differ.
type DifferentValue struct {
	// Value is empty where the replicas do not have the setting, as that of a service that they
	// do not know.
	Value    string   `json:"value"`
	Replicas []string `json:"replicas"`
}

// String lists the values and up to five of the replicas that have each.
func (d Difference) String() string {
	parts := make([]string, len(d.Values))
	for i, v := range d.Values {
		value, who := v.Value, strings.Join(v.Replicas[:min(len(v.Replicas), 5)], ", ")
		if value == "" {
			value = "nothing"
		}
		if more := len(v.Replicas) - 5; more > 0 {
			who += fmt.Sprintf(" and %d more", more)
		}
		parts[i] = fmt.Sprintf("%s (%s)", value, who)
	}
	return d.Setting + ": " + strings.Join(parts, ", ")
}

// Differences compares the settings of replicas and returns those in which they differ, by name.
// A replica that does not report its settings is left out.
func Differences(replicas []ReplicaState) (all []Difference) {
	names := map[string]bool{}
	var reporting []*ReplicaState
	for i := range replicas {
		if r := &replicas[i]; len(r.Settings) > 0 {
			reporting = append(reporting, r)
			for name := range r.Settings {
				names[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		by := map[string][]string{}
		for _, r := range reporting {
			by[r.Settings[name]] = append(by[r.Settings[name]], r.Replica)
		}
		if len(by) > 1 {
			all = append(all, Difference{Setting: name, Values: ranked(by)})
		}
	}
	return all
}

// ranked sorts values by how many replicas have them.
func ranked(by map[string][]string) (values []DifferentValue) {
	for value, replicas := range by {
		slices.Sort(replicas)
		values = append(values, DifferentValue{Value: value, Replicas: replicas})
	}
	slices.SortFunc(values, func(a, b DifferentValue) int {
		return cmp.Or(cmp.Compare(len(b.Replicas), len(a.Replicas)), cmp.Compare(a.Value, b.Value))
	})
	return values
}
