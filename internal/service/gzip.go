package service

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// acceptEncoding asks for gzip. net/http would do so by itself, but takes a compressed body of no bytes, which was
// cut off, for a complete one that holds nothing.
const acceptEncoding = "gzip"

// unzip has the body of a reply decompressed while it is read.
func unzip(resp *http.Response) {
	if resp.ContentLength != 0 && strings.EqualFold(resp.Header.Get("Content-Encoding"), acceptEncoding) {
		resp.Body = &gzipBody{ReadCloser: resp.Body}
	}
}

// gzipBody is a body in gzip.
type gzipBody struct {
	io.ReadCloser
	plain *gzip.Reader
	err   error
}

// Read implements io.Reader. The first one reads the header of the stream.
func (b *gzipBody) Read(p []byte) (int, error) {
	if b.plain == nil && b.err == nil {
		b.plain, b.err = gzip.NewReader(b.ReadCloser)
		if errors.Is(b.err, io.EOF) {
			b.err = fmt.Errorf("the body is to be gzip and was closed before its first byte: %w", io.ErrUnexpectedEOF)
		}
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.plain.Read(p)
}
