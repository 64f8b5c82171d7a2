package jobs

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// maxSecretFile bounds what is read of a secret's file: a wrong path may name anything.
const maxSecretFile = 64 << 10

// byteOrderMark is what some editors begin a file with; no secret does.
const byteOrderMark = "\ufeff"

// ReadSecret reads a secret from a file, without the one line end that editors and echo add.
func ReadSecret(path string) (Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return Secret{}, fmt.Errorf("%w; it must be a file that the worker's user can read", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	switch {
	case err != nil:
		return Secret{}, fmt.Errorf("read %s: %w", path, err)
	case len(text) > maxSecretFile:
		return Secret{}, fmt.Errorf("%s has more than %d bytes: this cannot be the secret", path, maxSecretFile)
	}
	if bytes.HasPrefix(text, []byte(byteOrderMark)) {
		return Secret{}, fmt.Errorf("%s begins with a byte order mark (BOM): save it as UTF-8 without one", path)
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\r"))
	if len(text) == 0 {
		return Secret{}, fmt.Errorf("%s is empty", path)
	}
	return Secret{text: string(text), file: path}, nil
}

// Current returns the secret as its file has it at the moment; one without a file, or whose file
// cannot be used, as it was.
func (s Secret) Current() Secret {
	if s.file == "" {
		return s
	}
	now, err := ReadSecret(s.file)
	if err != nil {
		return s
	}
	return now
}
