package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"rollcall/internal/jobs"
)

// Names makes the subjects of one ledger: that of a pool over a job stream. A pool of the same
// name over another stream has a ledger of its own.
type Names struct{ Pool, Stream string }

// pageKey names a page of a ledger.
type pageKey struct {
	epoch  string
	number uint64
}

// keyOf returns the key of the page that holds a job, and the job's place there.
func keyOf(ref jobs.Ref) (key pageKey, offset int) {
	number, offset := ref.Page()
	return pageKey{ref.Epoch, number}, offset
}

// bucket returns the number of the page's bucket.
func (k pageKey) bucket() uint64 { return k.number / jobs.PagesPerBucket }

// Page is where the page of a job is stored:
// done.ledger.<pool>.page.<stream>.<epoch>.<bucket>.<page>.
func (n Names) Page(ref jobs.Ref) string {
	key, _ := keyOf(ref)
	return n.page(key)
}

func (n Names) page(key pageKey) string {
	b := n.appendBucket(make([]byte, 0, 128), key.epoch, key.bucket())
	b = append(b, '.')
	return string(strconv.AppendUint(b, key.number, 10))
}

func (n Names) appendBucket(b []byte, epoch string, bucket uint64) []byte {
	b = n.appendPages(b)
	b = append(b, epoch...)
	b = append(b, '.')
	return strconv.AppendUint(b, bucket, 10)
}

func (n Names) appendPages(b []byte) []byte {
	b = append(b, "done.ledger."...)
	b = append(b, n.Pool...)
	b = append(b, ".page."...)
	b = append(b, n.Stream...)
	return append(b, '.')
}

// Bucket matches the pages of one bucket.
func (n Names) Bucket(epoch string, bucket uint64) string {
	return string(append(n.appendBucket(make([]byte, 0, 128), epoch, bucket), ".*"...))
}

// Pages matches every page of the ledger.
func (n Names) Pages() string { return string(n.appendPages(nil)) + "*.*.*" }

// setEnd is the last token of the mark that a set has ended; no lane is called so.
const setEnd = "end"

// set returns done.ledger.<pool>.set.<set>.<last>: a tally where last is a lane, or the end mark.
func (n Names) set(set, last string) string {
	return "done.ledger." + n.Pool + ".set." + set + "." + last
}

// Sets matches every tally and end mark of the pool; those of one set with its name for set.
func (n Names) Sets(set string) string { return n.set(set, "*") }

// parseSet is the inverse of set, for any pool.
func parseSet(subject string) (set, last string, ok bool) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 6 || tokens[0] != "done" || tokens[1] != "ledger" || tokens[3] != "set" {
		return "", "", false
	}
	return tokens[4], tokens[5], true
}

// Lane returns the lane that a replica of this name writes its tallies to: a token of a subject
// that is never the end mark. Two replicas may share a lane; the fence keeps their sums right.
func Lane(replica string) string {
	sum := sha256.Sum256([]byte(replica))
	return "r" + hex.EncodeToString(sum[:6])
}

// All matches everything that the pool keeps in its ledgers, over any stream.
func (n Names) All() string { return "done.ledger." + n.Pool + ".>" }

// parsePage is the inverse of page, for any pool and stream.
func parsePage(subject string) (n Names, key pageKey, ok bool) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 8 || tokens[0] != "done" || tokens[1] != "ledger" || tokens[3] != "page" {
		return Names{}, pageKey{}, false
	}
	number, err := strconv.ParseUint(tokens[7], 10, 64)
	if err != nil {
		return Names{}, pageKey{}, false
	}
	return Names{Pool: tokens[2], Stream: tokens[4]}, pageKey{epoch: tokens[5], number: number}, true
}
