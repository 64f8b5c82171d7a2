package ledger

import (
	"strconv"

	"rollcall/internal/jobs"
)

// pageKey names a page of a pool's ledger.
type pageKey struct {
	epoch  string
	number uint64
}

// keyOf returns the key of the page that holds a job, and the job's place there.
func keyOf(ref jobs.Ref) (key pageKey, offset int) {
	number, offset := ref.Page()
	return pageKey{ref.Epoch, number}, offset
}

// subject returns done.page.<pool>.<epoch>.<bucket>.<page>.
func (k pageKey) subject(pool string) string {
	b := make([]byte, 0, 96)
	b = appendBucket(b, pool, k.epoch, k.number/jobs.PagesPerBucket)
	b = append(b, '.')
	return string(strconv.AppendUint(b, k.number, 10))
}

func appendBucket(b []byte, pool, epoch string, bucket uint64) []byte {
	b = append(b, "done.page."...)
	b = append(b, pool...)
	b = append(b, '.')
	b = append(b, epoch...)
	b = append(b, '.')
	return strconv.AppendUint(b, bucket, 10)
}

// PageSubject is where the page of a job is stored.
func PageSubject(pool string, ref jobs.Ref) string {
	key, _ := keyOf(ref)
	return key.subject(pool)
}

// BucketFilter matches the pages of one bucket.
func BucketFilter(pool, epoch string, bucket uint64) string {
	return string(append(appendBucket(make([]byte, 0, 96), pool, epoch, bucket), ".*"...))
}

// PagesFilter matches every page of a pool.
func PagesFilter(pool string) string { return "done.page." + pool + ".*.*.*" }
