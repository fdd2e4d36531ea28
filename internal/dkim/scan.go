package dkim

import (
	"bytes"
	"context"
	"errors"
	"math"
	"time"
)

// Scan is a message on its way to be judged, and to be sealed: an io.Writer of its octets in CRLF form, from the first of the header. It
// takes them in once; memory is flat in the size of the body. Make it with NewScan.
type Scan struct {
	digest *Digest
	fields []field
	// broken is why the header cannot be read.
	broken error
	// positions are the places of the fields of a name, from the last up.
	positions map[string][]int
	mails     []parsed
	chain     chain
	bodies    map[bodyKey]bodyForm
	ended     bool
	hashes    map[bodyKey]bodyEnd
}

// parsed is a signature of a message, or why it is none.
type parsed struct {
	signature *signature
	err       error
}

// bodyEnd is the hash of a form, and how many octets that has.
type bodyEnd struct {
	hash []byte
	size int64
}

// NewScan returns an empty Scan.
func NewScan() *Scan {
	s := &Scan{digest: NewDigest(), positions: map[string][]int{}, bodies: map[bodyKey]bodyForm{}, hashes: map[bodyKey]bodyEnd{}}
	s.digest.begin = s.begin
	return s
}

// Write takes a part of the message. The error is ErrHeader.
func (s *Scan) Write(p []byte) (int, error) { return s.digest.Write(p) }

// begin reads the header, and makes ready for the forms of the body that its signatures want.
func (s *Scan) begin() {
	if s.fields, s.broken = fields(s.digest.header); s.broken != nil {
		return
	}
	for i := len(s.fields) - 1; i >= 0; i-- {
		s.positions[s.fields[i].name] = append(s.positions[s.fields[i].name], i)
	}
	for i := range s.fields {
		if s.fields[i].name == "dkim-signature" && len(s.mails) < MaxVerified {
			one, err := parseDKIM(&s.fields[i])
			s.mails = append(s.mails, parsed{one, err})
			s.want(one, err)
		}
	}
	s.chain = readChain(s.fields)
	if newest := s.chain.newest; newest != nil {
		s.want(newest.signature, newest.err)
	}
}

// want adds a form of the body to those that are hashed: at most MaxVerified of DKIM, and one of the chain.
func (s *Scan) want(one *signature, err error) {
	if err != nil || s.bodies[one.body] != nil || one.body == (bodyKey{limit: math.MaxInt64}) {
		return
	}
	var b bodyForm = &bodyHash{out: newOctets(one.body.limit)}
	if one.body.simple {
		b = &simpleBody{out: newOctets(one.body.limit)}
	}
	s.bodies[one.body] = b
	s.digest.others = append(s.digest.others, b)
}

// end ends the message, once.
func (s *Scan) end() {
	if s.ended {
		return
	}
	s.ended = true
	if !s.digest.ended {
		s.digest.endHeader()
	}
	relaxed, size := s.digest.body.end()
	s.hashes[bodyKey{limit: math.MaxInt64}] = bodyEnd{relaxed, size}
	for key, b := range s.bodies {
		sum, size := b.end()
		s.hashes[key] = bodyEnd{sum, size}
	}
}

// Signatures judges the DKIM-Signature fields of the message that was written, the topmost MaxVerified of them, at the time at which it came.
// It looks each key up once.
func (s *Scan) Signatures(ctx context.Context, at time.Time, txt TXT) []Result {
	s.end()
	k := newKeys(txt)
	var list []Result
	for _, one := range s.mails {
		r := Result{Status: Pass}
		if one.signature != nil {
			r.Domain, r.Selector = one.signature.domain, one.signature.selector
			r.Algorithm, r.Tag = string(one.signature.algorithm), one.signature.tags["b"]
			r.Tag = r.Tag[:min(len(r.Tag), tagLen)]
		}
		err := one.err
		if err == nil {
			err = s.holds(ctx, k, one.signature, at)
		}
		if f := (*finding)(nil); errors.As(err, &f) {
			r.Status, r.Reason = f.status, f.text
		}
		list = append(list, r)
	}
	return list
}

// holds checks a DKIM-Signature.
func (s *Scan) holds(ctx context.Context, k *keys, one *signature, at time.Time) error {
	if err := one.timely(at); err != nil {
		return err
	}
	tags, err := s.verify(ctx, k, one)
	switch {
	case err != nil:
		return err
	case listed(tags["t"], "y"): // RFC 6376 §3.6.1: as if it were not signed
		return &finding{Neutral, "the key is marked as a test"}
	case listed(tags["t"], "s") && one.tags["i"] != "":
		if i := one.tags["i"]; !bytes.EqualFold([]byte(i[1+bytes.LastIndexByte([]byte(i), '@'):]), []byte(one.tags["d"])) {
			return permError("the key is not for i=")
		}
	case s.hashes[one.body].size > one.body.limit:
		return &finding{Policy, "part of the body is not signed"} // RFC 6376 §8.2
	}
	return nil
}

// verify checks the hash of the body and the signature of the header (RFC 6376 §6.1.3).
func (s *Scan) verify(ctx context.Context, k *keys, one *signature) (map[string]string, error) {
	switch body := s.hashes[one.body]; {
	case one.body.limit != math.MaxInt64 && body.size < one.body.limit:
		return nil, permError("l= is beyond the end")
	case !bytes.Equal(body.hash, one.want):
		return nil, &finding{Fail, "the body was changed"}
	}
	var signed []byte
	taken := map[string]int{}
	for _, name := range one.names { // RFC 6376 §5.4.2: of one name from the last up
		if at := s.positions[name]; taken[name] < len(at) {
			signed = one.form(signed, s.fields[at[taken[name]]].all)
			taken[name]++
		}
	}
	return k.verify(ctx, one, signed)
}
