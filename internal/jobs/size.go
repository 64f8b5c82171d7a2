package jobs

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrSize is returned for a text that is not a size.
var ErrSize = errors.New("not a size; write bytes as 65536, or with a unit as 64KiB, 1MiB, 500KB")

// Size is a number of bytes that people write with a unit.
type Size int64

// The binary units of a [Size].
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// sizeUnits are tried in this order, so that "KiB" is not taken for "B".
var sizeUnits = [...]struct {
	suffix string
	bytes  Size
}{
	{"kib", KiB}, {"mib", MiB}, {"gib", GiB},
	{"kb", 1000}, {"mb", 1000 * 1000}, {"gb", 1000 * 1000 * 1000},
	{"b", 1},
}

// UnmarshalText reads a size: "65536", "64KiB", "1.5 MB"; the unit's case does not matter.
// The error wraps [ErrSize].
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := strings.ToLower(strings.TrimSpace(string(text))), Size(1)
	for _, u := range sizeUnits {
		if rest, found := strings.CutSuffix(number, u.suffix); found {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	if n, err := strconv.ParseUint(number, 10, 63); err == nil && n <= uint64(math.MaxInt64/int64(unit)) {
		*s = Size(n) * unit
		return nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if bytes := f * float64(unit); err == nil && !strings.ContainsAny(number, "einx+-_") && bytes < math.MaxInt64 {
		*s = Size(bytes)
		return nil
	}
	return fmt.Errorf("%q: %w", text, ErrSize)
}

// MarshalText writes what [Size.UnmarshalText] reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String writes the size in the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range [...]struct {
		unit Size
		name string
	}{{GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s != 0 && s%u.unit == 0 {
			return strconv.FormatInt(int64(s/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
