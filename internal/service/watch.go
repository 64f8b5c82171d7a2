package service

import (
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// watchEvery is how often a file is looked at, at most.
const watchEvery = time.Second

// watch notices that files were replaced. It looks at them when it is asked, so nothing runs
// for it; the caller makes sure that nobody else asks meanwhile.
type watch struct {
	paths []string
	// stamps are what was last seen of each file, nil for one that was not there.
	stamps []os.FileInfo
	looked time.Time
}

func newWatch(paths ...string) watch {
	var w watch
	for _, path := range paths {
		if path != "" {
			w.paths = append(w.paths, path)
			w.stamps = append(w.stamps, stampOf(path))
		}
	}
	return w
}

// stampOf looks at a file; nil if it is not there.
func stampOf(path string) os.FileInfo {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// differ reports whether two looks saw different files: orchestrators put another one in place,
// people write into the one that is there.
func differ(a, b os.FileInfo) bool {
	return a == nil || !os.SameFile(a, b) || !a.ModTime().Equal(b.ModTime()) || a.Size() != b.Size()
}

// changed reports whether a file is another one than when it was last asked. A file that is
// missing for a moment has not changed.
func (w *watch) changed(now time.Time) bool {
	if len(w.paths) == 0 || now.Sub(w.looked) < watchEvery {
		return false
	}
	w.looked = now
	changed := false
	for i, path := range w.paths {
		if s := stampOf(path); s != nil && differ(w.stamps[i], s) {
			w.stamps[i], changed = s, true
		}
	}
	return changed
}

// watched is what is made of a secret, made again when the secret's file changes.
type watched[T any] struct {
	name   string // of the variable, for the log
	secret jobs.Secret
	make   func(jobs.Secret) (T, error)
	log    zerolog.Logger

	mu    sync.Mutex
	watch watch
	value T
}

// newWatched makes the value for the first time.
func newWatched[T any](name string, secret jobs.Secret, log zerolog.Logger, makeOf func(jobs.Secret) (T, error)) (*watched[T], error) {
	value, err := makeOf(secret)
	if err != nil {
		return nil, err
	}
	return &watched[T]{name: name, secret: secret, make: makeOf, log: log, watch: newWatch(secret.File()), value: value}, nil
}

// get returns the value of the file as it stands. A file that cannot be used leaves the value as
// it was.
func (w *watched[T]) get() T {
	if w.secret.File() == "" {
		return w.value
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.watch.changed(time.Now()) {
		return w.value
	}
	secret, err := jobs.ReadSecret(w.secret.File())
	var value T
	if err == nil {
		value, err = w.make(secret)
	}
	if err != nil {
		w.log.Warn().Str("setting", w.name).Err(err).Msg("the file of a secret changed and cannot be used")
		return w.value
	}
	w.log.Info().Str("setting", w.name).Msg("the file of a secret was read again")
	w.value = value
	return value
}
