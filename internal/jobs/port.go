package jobs

import "strconv"

// ValidPort reports whether a port can be connected to; an empty one is the scheme's own.
func ValidPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}
