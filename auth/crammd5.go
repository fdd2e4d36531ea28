package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/emersion/go-sasl"
)

// cramServer is the server side of CRAM-MD5 (RFC 2195): one challenge, one response.
type cramServer struct {
	auth      *Authenticator
	ctx       context.Context // of the connection
	at        Attempt
	challenge string
	accept    func(Identity) error
	step      int // how many messages went to and fro
}

// NewCRAMMD5Server returns a server for CRAM-MD5 (RFC 2195). host is the server's name, for the challenge. accept is called once with
// who logged in; its error ends the exchange. Other errors are those of [Authenticator.APOP], and one for a malformed response.
func (a *Authenticator) NewCRAMMD5Server(ctx context.Context, at Attempt, host string, accept func(Identity) error) sasl.Server {
	at.Mechanism = CRAMMD5
	return &cramServer{auth: a, ctx: ctx, at: at, challenge: a.cramChallenge(host), accept: accept}
}

// cramChallenge makes a challenge that was never made before: random digits, a clock and a host (RFC 2195 §2).
func (a *Authenticator) cramChallenge(host string) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the process instead
	return fmt.Sprintf("<%d.%d@%s>", binary.BigEndian.Uint64(random[:]), a.o.Now().Unix(), host)
}

// Next takes one response; nil is none, as at the beginning. The server speaks first, so an initial response is refused (RFC 5034 §4).
func (s *cramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	s.step++
	switch {
	case s.step == 1 && response == nil:
		return []byte(s.challenge), false, nil
	case s.step != 2:
		s.step = 2
		return nil, true, errExchange
	}
	// The name may have blanks; the digest has none.
	i := bytes.LastIndexByte(response, ' ')
	var digest [md5.Size]byte
	if i < 0 || len(response)-i-1 != hex.EncodedLen(len(digest)) {
		return nil, true, errExchange
	}
	if _, err := hex.Decode(digest[:], response[i+1:]); err != nil {
		return nil, true, errExchange
	}
	id, err := s.auth.challenged(s.ctx, s.at, string(response[:i]), func(kept secret) bool {
		return kept.proves(func(password string) bool {
			mac := hmac.New(md5.New, []byte(password))
			mac.Write([]byte(s.challenge))
			return hmac.Equal(mac.Sum(nil), digest[:])
		})
	})
	if err != nil {
		return nil, true, err
	}
	return nil, true, s.accept(id)
}
