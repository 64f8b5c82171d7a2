package jobs

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// plain returns how many bytes at the beginning of b stand for themselves in a JSON string:
// ASCII without control characters, quotes and backslashes. It looks at eight bytes at a time, and
// at four times eight where a text is long.
func plain(b []byte) int {
	const word = 8
	n := 0
	for ; len(b)-n >= 4*word; n += 4 * word {
		w := b[n : n+4*word : n+4*word]
		if special(binary.LittleEndian.Uint64(w))|special(binary.LittleEndian.Uint64(w[word:]))|
			special(binary.LittleEndian.Uint64(w[2*word:]))|special(binary.LittleEndian.Uint64(w[3*word:])) != 0 {
			break
		}
	}
	for ; len(b)-n >= word; n += word {
		if marked := special(binary.LittleEndian.Uint64(b[n:])); marked != 0 {
			return n + bits.TrailingZeros64(marked)/8
		}
	}
	for n < len(b) && b[n] >= ' ' && b[n] < utf8.RuneSelf && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}

// special sets the highest bit of the first byte of w that is not plain; w begins with its lowest
// byte. Those of bytes behind it mean nothing: subtracting borrows from them.
func special(w uint64) uint64 {
	const each, high = 0x0101010101010101, 0x8080808080808080
	control := w - each*' '
	quote := (w ^ each*'"') - each
	backslash := (w ^ each*'\\') - each
	return (w | control | quote | backslash) & high
}
