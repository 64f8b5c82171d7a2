package jobs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// PageSize is how many neighbouring stream sequences share one ledger page. A power of two,
// at most 64: the final ones are a bitmap in one machine word.
const PageSize = 16

// PagesPerBucket is how many neighbouring pages share a bucket, the unit of the ledger's sweep.
const PagesPerBucket = 256

const pageVersion = 1

// ErrPage is returned for bytes that are not a ledger page of this version.
var ErrPage = errors.New("not a ledger page")

// Page returns the number of the ledger page that holds the job, and its place there.
func (r Ref) Page() (number uint64, offset int) {
	return r.Seq / PageSize, int(r.Seq % PageSize)
}

// Page is what the ledger knows of PageSize neighbouring jobs: a bitmap of the final ones
// and a record for each of the others that was tried. The zero Page knows nothing. A Page is
// a value: With returns a changed copy and never touches the receiver.
type Page struct {
	final uint64
	open  []openRecord
}

type openRecord struct {
	offset int
	record Record
}

// Record returns what is known of the job at offset.
func (p Page) Record(offset int) Record {
	if p.final&(1<<offset) != 0 {
		return Record{Final: true}
	}
	if i, found := p.find(offset); found {
		return p.open[i].record
	}
	return Record{}
}

// With returns the page with the record at offset replaced by r.
func (p Page) With(offset int, r Record) Page {
	i, found := p.find(offset)
	switch {
	case r.Final:
		p.final |= 1 << offset
		if found {
			p.open = slices.Delete(slices.Clone(p.open), i, i+1)
		}
	case found:
		p.open = slices.Clone(p.open)
		p.open[i].record = r
	default:
		p.open = slices.Insert(slices.Clone(p.open), i, openRecord{offset, r})
	}
	return p
}

func (p Page) find(offset int) (int, bool) {
	if len(p.open) == 0 {
		return 0, false
	}
	i := sort.Search(len(p.open), func(i int) bool { return p.open[i].offset >= offset })
	return i, i < len(p.open) && p.open[i].offset == offset
}

// Known reports whether anything is recorded of the job at offset.
func (p Page) Known(offset int) bool {
	_, open := p.find(offset)
	return open || p.final&(1<<offset) != 0
}

// Merge returns what either of two pages knows of the same jobs: a final record wins, and of two
// open ones that of p with the successes of both.
func (p Page) Merge(o Page) Page {
	for offset := range PageSize {
		theirs := o.Record(offset)
		switch {
		case !o.Known(offset), p.Record(offset).Final:
		case theirs.Final, !p.Known(offset):
			p = p.With(offset, theirs)
		default:
			p = p.With(offset, p.Record(offset).Merge(theirs))
		}
	}
	return p
}

// Open reports whether the page holds the record of a job that is not final.
func (p Page) Open() bool { return len(p.open) > 0 }

// Memory returns about how many bytes the page takes in memory: at least what it takes encoded.
func (p Page) Memory() int {
	const page, record, name = 48, 80, 32 // a name's header and the waste of small allocations
	size := page + len(p.open)*record
	for i := range p.open {
		for _, service := range p.open[i].record.OK {
			size += name + len(service)
		}
	}
	return size
}

// Append encodes the page onto b:
//
//	version  1 byte
//	final    PageSize/8 bytes, little endian, bit n = offset n
//	records  until the end, by offset:
//	         offset 1 byte, then as uvarints attempts, seen, since, lone, group, number
//	         of services, and each service's name with its length before it
func (p Page) Append(b []byte) []byte {
	b = append(b, pageVersion)
	for i := range PageSize / 8 {
		b = append(b, byte(p.final>>(8*i)))
	}
	for _, o := range p.open {
		b = append(b, byte(o.offset))
		r := &o.record
		for _, n := range [...]int{r.Attempts, r.Seen, r.Since, r.Lone, r.Group, len(r.OK)} {
			b = binary.AppendUvarint(b, uint64(n))
		}
		for _, service := range o.record.OK {
			b = binary.AppendUvarint(b, uint64(len(service)))
			b = append(b, service...)
		}
	}
	return b
}

// DecodePage is the inverse of [Page.Append]. It keeps no reference to b. The error wraps [ErrPage].
func DecodePage(b []byte) (Page, error) {
	var p Page
	if len(b) < 1+PageSize/8 || b[0] != pageVersion {
		return p, fmt.Errorf("%d bytes, want version %d: %w", len(b), pageVersion, ErrPage)
	}
	for i := range PageSize / 8 {
		p.final |= uint64(b[1+i]) << (8 * i)
	}
	r := pageReader{rest: b[1+PageSize/8:]}
	for last := -1; len(r.rest) > 0; {
		o := r.record()
		if r.bad || o.offset <= last || o.offset >= PageSize || p.final&(1<<o.offset) != 0 {
			return Page{}, fmt.Errorf("record %d is damaged: %w", len(p.open), ErrPage)
		}
		last = o.offset
		p.open = append(p.open, o)
	}
	return p, nil
}

// pageReader reads records off a page and remembers whether one was damaged.
type pageReader struct {
	rest []byte
	bad  bool
}

func (r *pageReader) record() openRecord {
	o := openRecord{offset: int(r.bytes(1)[0])}
	for _, n := range [...]*int{&o.record.Attempts, &o.record.Seen, &o.record.Since, &o.record.Lone, &o.record.Group} {
		*n = r.int()
	}
	services := r.int()
	for range services {
		if r.bad {
			break
		}
		name := string(r.bytes(r.int()))
		if n := len(o.record.OK); n > 0 && o.record.OK[n-1] >= name {
			r.bad = true
		}
		o.record.OK = append(o.record.OK, name)
	}
	return o
}

// maxPageInt bounds every number of a page, so that a damaged one cannot ask for much memory.
const maxPageInt = 1 << 31

func (r *pageReader) int() int {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v >= maxPageInt {
		r.bad = true
		return 0
	}
	r.rest = r.rest[n:]
	return int(v)
}

// bytes returns the next n bytes; a zero byte where there are not enough.
func (r *pageReader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return []byte{0}
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
