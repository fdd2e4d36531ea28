package dkim

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxSets is how many sets a chain has at most (RFC 8617 §4.2.1).
const MaxSets = 50

// ErrNoSet: no set can be added: the chain ended before, or is as long as it may be.
var ErrNoSet = errors.New("dkim: no set can be added to the chain")

// The fields of a set.
const (
	resultsField = "arc-authentication-results"
	messageField = "arc-message-signature"
	sealField    = "arc-seal"
)

// set is an ARC Set: its fields, nil if they are not there.
type set struct{ results, message, seal *field }

// chain is the Authenticated Received Chain of a message as it stands in the header.
type chain struct {
	// sets are those from 1 up to the highest instance.
	sets []set
	// broken is what is wrong with the structure, nil if nothing is.
	broken error
	// over is set if the highest set says that the chain failed before it.
	over   bool
	newest *parsed
}

// readChain collects the sets (RFC 8617 §5.2, steps 1 to 3).
func readChain(list []field) chain {
	var c chain
	failed := 0 // the highest instance that says so
	for i := range list {
		f := &list[i]
		if f.name != resultsField && f.name != messageField && f.name != sealField {
			continue
		}
		n, ok := instanceOf(f)
		if !ok {
			c.fault("a field without an instance of 1 to %d", MaxSets)
			continue
		}
		for len(c.sets) < n {
			c.sets = append(c.sets, set{})
		}
		if f.name == sealField && validation(f) == Fail {
			failed = max(failed, n)
		}
		place := c.sets[n-1].place(f.name)
		if *place != nil {
			c.fault("instance %d has two %s", n, f.name)
			continue
		}
		*place = f
	}
	for i, one := range c.sets {
		if one.results == nil || one.message == nil || one.seal == nil {
			c.fault("instance %d is not whole", i+1)
			continue
		}
		want := Pass
		if i == 0 {
			want = None
		}
		if cv := validation(one.seal); cv != want {
			c.fault("instance %d says that the chain before it is %q", i+1, cv)
		}
	}
	n := len(c.sets)
	c.over = n > 0 && failed == n
	if n > 0 && c.broken == nil {
		newest, err := parseMessageSignature(c.sets[n-1].message)
		c.newest = &parsed{newest, err}
	}
	return c
}

// place is where a set keeps a field.
func (s *set) place(name string) **field {
	switch name {
	case resultsField:
		return &s.results
	case messageField:
		return &s.message
	}
	return &s.seal
}

func (c *chain) fault(format string, args ...any) {
	if c.broken == nil {
		c.broken = fmt.Errorf("dkim: "+format, args...)
	}
}

// instanceTag is i= at the beginning of ARC-Authentication-Results, with comments around it (RFC 8617 §4.1.1, RFC 5322 §3.2.2).
var instanceTag = regexp.MustCompile(`^(?:[ \t\r\n]|\([^()\\]*\))*i(?:[ \t\r\n]|\([^()\\]*\))*=(?:[ \t\r\n]|\([^()\\]*\))*([0-9]{1,2})(?:[ \t\r\n]|\([^()\\]*\))*(?:;|$)`)

// instanceOf is the number of the set that a field belongs to.
func instanceOf(f *field) (int, bool) {
	_, value, _ := bytes.Cut(f.all, []byte{':'})
	text := ""
	if f.name == resultsField {
		found := instanceTag.FindSubmatch(value)
		if found == nil {
			return 0, false
		}
		text = string(found[1])
	} else {
		tags, err := parseTags(string(value))
		if err != nil {
			return 0, false
		}
		text = tags["i"]
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && len(text) <= 2 && strings.Trim(text, "0123456789") == "" && n >= 1 && n <= MaxSets
}

// validation is cv= of a seal.
func validation(f *field) Status {
	_, value, _ := bytes.Cut(f.all, []byte{':'})
	tags, err := parseTags(string(value))
	if err != nil {
		return ""
	}
	return Status(bytes.ToLower([]byte(tags["cv"])))
}

// parseMessageSignature reads an ARC-Message-Signature.
func parseMessageSignature(f *field) (*signature, error) {
	s, err := parseSignature(f)
	if err != nil {
		return s, err
	}
	for _, name := range []string{resultsField, messageField, sealField} {
		if slices.Contains(s.names, name) { // RFC 8617 §4.1.2
			return s, permError("a field of the chain is signed")
		}
	}
	return s, nil
}

// Chain is what is to be said of a message's Authenticated Received Chain.
type Chain struct {
	// Status is None, Pass or Fail (RFC 8617 §4.4).
	Status Status
	// Err is why it is Fail, for the log. ErrTemporary: a key could not be looked up, which is as bad (RFC 8617 §5.2.1), but may be
	// otherwise later.
	Err error
	// Sets is how many sets there are.
	Sets int
}

// Chain validates the chain of the message that was written (RFC 8617 §5.2). It looks each key up once, and stops at the first that fails.
func (s *Scan) Chain(ctx context.Context, txt TXT) Chain {
	s.end()
	c := Chain{Status: Fail, Sets: len(s.chain.sets)}
	switch {
	case s.broken != nil:
		c.Err = s.broken
	case s.chain.over:
		c.Err = errors.New("dkim: the chain had failed before")
	case s.chain.broken != nil:
		c.Err = s.chain.broken
	case c.Sets == 0:
		c.Status = None
	default:
		if c.Err = s.validate(ctx, newKeys(txt)); c.Err == nil {
			c.Status = Pass
		}
	}
	return c
}

// validate checks the signatures of a chain whose structure is right (RFC 8617 §5.2, steps 4 and 6).
func (s *Scan) validate(ctx context.Context, k *keys) error {
	n := len(s.chain.sets)
	wrap := func(what string, i int, err error) error {
		if f := (*finding)(nil); errors.As(err, &f) && f.status == TempError {
			return fmt.Errorf("%w: %s of instance %d", ErrTemporary, what, i)
		}
		return fmt.Errorf("%s of instance %d: %w", what, i, err)
	}
	err := s.chain.newest.err
	if err == nil {
		newest := s.chain.newest.signature
		if _, err = s.verify(ctx, k, newest); err == nil && s.hashes[newest.body].size > newest.body.limit {
			err = &finding{Policy, "part of the body is not signed"} // RFC 6376 §8.2
		}
	}
	if err != nil {
		return wrap("message signature", n, err)
	}
	for i := n; i >= 1; i-- {
		seal, err := parseSeal(s.chain.sets[i-1].seal)
		if err == nil {
			if _, ok := seal.tags["h"]; ok { // RFC 8617 §4.1.3
				err = permError("the seal has h=")
			}
		}
		if err == nil {
			_, err = k.verify(ctx, seal, s.chain.sealed(i))
		}
		if err != nil {
			return wrap("seal", i, err)
		}
	}
	return nil
}

// sealed are the fields that the seal of an instance covers before itself, in their form (RFC 8617 §5.1.1).
func (c *chain) sealed(instance int) []byte {
	var out []byte
	for i, one := range c.sets[:instance] {
		for _, f := range []*field{one.results, one.message, one.seal} {
			if i == instance-1 && f == one.seal {
				break
			}
			out = append(appendRelaxed(out, f.all), crlf...)
		}
	}
	return out
}

// Set is what a new set is made of.
type Set struct {
	// Domain and Key are who seals. The key is RSA: a set has one algorithm, and not everybody knows another (RFC 8617 §4.2.1).
	Domain string
	Key    Key
	Now    time.Time
	// Results are the lines of ARC-Authentication-Results behind the instance: the authserv-id, then each result, without semicolons and
	// control characters.
	Results []string
	// Validation is cv=: the Status of the chain as it came.
	Validation Status
}

// Seal returns a set for the message that was written, as complete lines to be put before it: the seal, the message signature and the
// results (RFC 8617 §5.1). ErrNoSet: the chain says itself that it has failed, or has MaxSets. ErrHeader and ErrNoFrom: it cannot be signed.
func (s *Scan) Seal(set Set) ([]byte, error) {
	s.end()
	switch {
	case s.broken != nil:
		return nil, s.broken
	case s.chain.over || len(s.chain.sets) >= MaxSets:
		return nil, ErrNoSet
	case !has(s.fields, "from"):
		return nil, ErrNoFrom
	}
	instance := "i=" + strconv.Itoa(len(s.chain.sets)+1) + ";"
	by := "\r\n\td=" + set.Domain + ";\r\n\ts=" + set.Key.Selector + "; t=" + strconv.FormatInt(set.Now.Unix(), 10) + ";"
	results := []byte("ARC-Authentication-Results: " + instance)
	for i, line := range set.Results {
		between := ";\r\n\t"
		if i == 0 {
			between = " "
		}
		results = append(append(results, between...), line...)
	}
	results = append(results, crlf...)
	names, signed := choose(s.fields, slices.Concat(covered, []coverage{{"dkim-signature", false}}))
	message, err := endorse(set.Key, "ARC-Message-Signature: "+instance+" a=rsa-sha256; c=relaxed/relaxed;"+by+"\r\n\th="+fold(names, ":", len("h="))+
		";\r\n\tbh="+base64.StdEncoding.EncodeToString(s.hashes[bodyKey{limit: math.MaxInt64}].hash)+";\r\n\tb=", signed)
	if err != nil {
		return nil, err
	}
	var before []byte
	if set.Validation != Fail { // RFC 8617 §5.1.2
		before = s.chain.sealed(len(s.chain.sets))
		if n := len(s.chain.sets); n > 0 {
			before = append(appendRelaxed(before, s.chain.sets[n-1].seal.all), crlf...)
		}
	}
	for _, f := range [][]byte{results, message} {
		before = append(appendRelaxed(before, f), crlf...)
	}
	seal, err := endorse(set.Key, "ARC-Seal: "+instance+" a=rsa-sha256; cv="+string(set.Validation)+";"+by+"\r\n\tb=", before)
	return slices.Concat(seal, message, results), err
}
