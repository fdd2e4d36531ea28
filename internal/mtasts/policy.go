package mtasts

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxAge is the longest life of a policy (RFC 8461 §3.2); a longer one is cut to it.
	MaxAge = 31_557_600 * time.Second
	// MaxHosts bounds the mx lines of a policy, maxHostName one of them, in octets.
	MaxHosts    = 200
	maxHostName = 255
	// maxID bounds the id of a policy (RFC 8461 §3.1).
	maxID = 32
)

// Mode says what a domain wants of senders (RFC 8461 §5).
type Mode string

// The modes.
const (
	// Enforce: no message goes to a host that does not keep the policy.
	Enforce Mode = "enforce"
	// Testing: it goes, but the domain wants to hear of it (RFC 8460).
	Testing Mode = "testing"
	// None: there is no policy any more.
	None Mode = "none"
)

// Policy is a domain's policy (RFC 8461 §3.2).
type Policy struct {
	Mode Mode `json:"mode"`
	// MX are host names in lower case, or patterns that begin with "*.".
	MX []string `json:"mx,omitempty"`
	// MaxAge is how long it holds from when it was fetched.
	MaxAge time.Duration `json:"max_age"`
}

// ErrInvalid: what was published is not a policy.
var ErrInvalid = errors.New("mtasts: invalid policy")

// ParseRecord finds the id in the TXT records of _mta-sts.DOMAIN (RFC 8461 §3.1). Not ok means that the domain has no policy to be
// fetched: no record of ours, several, or one without an id.
func ParseRecord(records []string) (id string, ok bool) {
	var ours []string
	for _, r := range records {
		version, _, more := strings.Cut(r, ";")
		if more && strings.TrimRight(version, " \t") == "v=STSv1" {
			ours = append(ours, r)
		}
	}
	if len(ours) != 1 {
		return "", false
	}
	for field := range strings.SplitSeq(ours[0], ";") {
		name, value, _ := strings.Cut(strings.Trim(field, " \t"), "=")
		if name == "id" {
			return value, value != "" && len(value) <= maxID && strings.Trim(value, letters+digits) == ""
		}
	}
	return "", false
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// Parse reads a policy. Of keys that come twice the first counts, mx aside; unknown ones are for other versions. The error wraps
// ErrInvalid and says what is wrong.
func Parse(text string) (Policy, error) {
	var p Policy
	seen := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.Trim(strings.TrimSuffix(line, "\r"), " \t")
		key, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if line == "" || ok && seen[key] {
			continue
		}
		if !ok {
			return Policy{}, fmt.Errorf("%w: a line without a colon", ErrInvalid)
		}
		seen[key] = key == "version" || key == "mode" || key == "max_age"
		if err := p.set(key, value); err != nil {
			return Policy{}, err
		}
	}
	switch {
	case !seen["version"] || !seen["mode"] || !seen["max_age"]:
		return Policy{}, fmt.Errorf("%w: version, mode or max_age is missing", ErrInvalid)
	case len(p.MX) == 0 && p.Mode != None:
		return Policy{}, fmt.Errorf("%w: no mx", ErrInvalid)
	}
	return p, nil
}

// set takes one line in.
func (p *Policy) set(key, value string) error {
	switch key {
	case "version":
		if value != "STSv1" {
			return fmt.Errorf("%w: another version", ErrInvalid)
		}
	case "mode":
		p.Mode = Mode(value)
		if !slices.Contains([]Mode{Enforce, Testing, None}, p.Mode) {
			return fmt.Errorf("%w: unknown mode", ErrInvalid)
		}
	case "max_age":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || len(value) > 10 {
			return fmt.Errorf("%w: max_age is no number of seconds", ErrInvalid)
		}
		p.MaxAge = time.Duration(min(n, uint64(MaxAge/time.Second))) * time.Second
	case "mx":
		host := strings.ToLower(strings.TrimSuffix(value, "."))
		if !isPattern(host) {
			return fmt.Errorf("%w: mx is no host name", ErrInvalid)
		}
		if len(p.MX) == MaxHosts {
			return fmt.Errorf("%w: more than %d mx lines", ErrInvalid, MaxHosts)
		}
		p.MX = append(p.MX, host)
	}
	return nil
}

// isPattern knows a host name, or one whose first label is a star.
func isPattern(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" || len(s) > maxHostName || strings.Trim(s, letters+digits+"-_.") != "" {
		return false
	}
	return !slices.Contains(strings.Split(s, "."), "")
}

// Matches reports whether a host is one of the policy's (RFC 8461 §4.1). A star stands for exactly one label.
func (p Policy) Matches(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	_, parent, ok := strings.Cut(host, ".")
	return slices.ContainsFunc(p.MX, func(pattern string) bool {
		if rest, star := strings.CutPrefix(pattern, "*."); star {
			return ok && parent == rest
		}
		return pattern == host
	})
}
