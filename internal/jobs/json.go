package jobs

import (
	"strconv"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string, like [appendText]; the compiler makes no copy of it.
func appendString(b []byte, s string) []byte { return appendText(b, []byte(s)) }

// appendText appends text as a JSON string. Invalid UTF-8 becomes U+FFFD, as RFC 8259 has no
// way to write it; <, > and & are left alone, the result is not for HTML.
func appendText(b, text []byte) []byte {
	b = append(b, '"')
	for {
		n := plain(text)
		b = append(b, text[:n]...)
		if text = text[n:]; len(text) == 0 {
			return append(b, '"')
		}
		if c := text[0]; c < utf8.RuneSelf {
			b, text = appendEscape(b, c), text[1:]
			continue
		}
		r, size := utf8.DecodeRune(text)
		b, text = utf8.AppendRune(b, r), text[size:]
	}
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	default:
		return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
}

// appendField appends ,"name":"value"; name needs no escaping.
func appendField(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return appendString(b, value)
}

// appendNumber appends ,"name":n.
func appendNumber(b []byte, name string, n int) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return strconv.AppendInt(b, int64(n), 10)
}

// appendMillis appends ,"name":d in milliseconds with one decimal.
func appendMillis(b []byte, name string, d time.Duration) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return strconv.AppendFloat(b, float64(d.Round(100*time.Microsecond))/float64(time.Millisecond), 'f', -1, 64)
}

// appendTime appends ,"name":"t" in RFC 3339, UTC.
func appendTime(b []byte, name string, t time.Time) []byte {
	var c clock
	return c.appendTime(b, name, t)
}

// clock writes times that lie close together, as those of the jobs of a batch do: it keeps the text of
// the second that it wrote last. Each job of each call has two times, so they have a clock each.
type clock struct {
	wrote bool
	unix  int64
	text  [len("2006-01-02T15:04:05")]byte
}

// appendTime appends ,"name":"t" in RFC 3339, UTC.
func (c *clock) appendTime(b []byte, name string, t time.Time) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	b = c.append(b, t)
	return append(b, '"')
}

// append appends what t has in UTC in the layout [time.RFC3339Nano]. A test holds the two against each other.
func (c *clock) append(b []byte, t time.Time) []byte {
	if unix := t.Unix(); !c.wrote || c.unix != unix {
		t := t.UTC()
		if year := t.Year(); year < 0 || year > 9999 {
			return t.AppendFormat(b, time.RFC3339Nano)
		}
		t.AppendFormat(c.text[:0], "2006-01-02T15:04:05")
		c.wrote, c.unix = true, unix
	}
	b = append(b, c.text[:]...)
	if nanos := t.Nanosecond(); nanos > 0 {
		var digits [9]byte
		for i := len(digits) - 1; i >= 0; i-- {
			digits[i] = byte('0' + nanos%10)
			nanos /= 10
		}
		n := len(digits)
		for digits[n-1] == '0' {
			n--
		}
		b = append(append(b, '.'), digits[:n]...)
	}
	return append(b, 'Z')
}
