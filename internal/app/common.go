package app

import (
	"strings"

	"rollcall/internal/settings"
)

// common returns the settings that the replicas of a pool should have in common, without
// secrets: whatever decides what becomes of a job, or how fast. Where a replica finds NATS,
// listens and logs is its own affair, and so is what it does only once, at its start.
func common(all []settings.Setting) map[string]string {
	shared := map[string]string{}
	for _, s := range all {
		if strings.HasPrefix(s.Name, "ROLLCALL_") && !ownAffair(s.Name) && !s.Secret {
			shared[s.Name] = s.Value
		}
	}
	return shared
}

// ownAffair reports whether the replicas of a pool may differ in a setting.
func ownAffair(name string) bool {
	switch name {
	case "ROLLCALL_HTTP_ADDR", "ROLLCALL_PAGE_ADDR", "ROLLCALL_LOG_LEVEL", "ROLLCALL_LOG_FORMAT", "ROLLCALL_ENSURE", "ROLLCALL_REPLICAS", "ROLLCALL_START":
		return true
	}
	if !strings.HasPrefix(name, "ROLLCALL_SVC_") {
		return false
	}
	// Files lie elsewhere on another machine.
	for _, file := range []string{"_CA", "_CERT", "_KEY"} {
		if strings.HasSuffix(name, file) {
			return true
		}
	}
	return false
}
