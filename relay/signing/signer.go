package signing

import (
	"context"
	"io"

	"latchkey/internal/dkim"
)

// readBuffer is how much of a message is read at once, in octets.
const readBuffer = 16 << 10

// Signer signs messages with the keys of a ring.
type Signer struct {
	Ring *Ring
}

// Sign reads a message to its end, in the form in which it will be sent, and returns the DKIM-Signature fields to put before it: none if no
// key signs. dkim.ErrHeader and dkim.ErrNoFrom mean that the message cannot be signed at all; any other error is ours, or the reader's.
func (s *Signer) Sign(ctx context.Context, domain string, content io.Reader) ([]byte, error) {
	keys, err := s.Ring.signers(ctx)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	d := dkim.NewDigest()
	if _, err := io.CopyBuffer(onlyWriter{d}, content, make([]byte, readBuffer)); err != nil {
		return nil, err
	}
	return d.Sign(domain, s.Ring.now(), keys...)
}

type onlyWriter struct{ io.Writer }
