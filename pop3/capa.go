package pop3

import (
	"context"
	"strconv"
	"time"
)

// Policy is what CAPA tells of the rules of a maildrop. The zero Policy tells nothing.
type Policy struct {
	// Expire is after how many days a message may be removed by its age alone (RFC 2449 §6.7): a number from 1, [ExpireNever] or [ExpireAtOnce].
	// Zero leaves EXPIRE out. Before login it is the smallest of all maildrops, after login the client's own.
	Expire int
	// ExpireByUser is set if Expire may be another one after login; before it CAPA then says so.
	ExpireByUser bool
	// LoginDelay is how much time must lie between two logins (RFC 2449 §6.5), told in seconds, rounded up. Zero leaves LOGIN-DELAY out. Before
	// login it is the largest of all maildrops, after login the client's own. To refuse a login that is too early, with [CodeLoginDelay], is the
	// backend's.
	LoginDelay time.Duration
	// LoginDelayByUser is set if LoginDelay may be another one after login; before it CAPA then says so.
	LoginDelayByUser bool
	// UTF8User is set if names and passwords may be UTF-8 (RFC 6856 §2.2), with and without the command UTF8. Then what is not UTF-8, or has a
	// character that SASLprep prohibits (RFC 4013 §2.3), is refused without asking the backend. The rest of SASLprep, its mappings and
	// normalisation, is the backend's.
	UTF8User bool
}

// Values of Policy.Expire that are no number of days.
const (
	// ExpireNever: no message is removed by its age.
	ExpireNever = -1
	// ExpireAtOnce: messages may not be left on the server.
	ExpireAtOnce = -2
)

// PolicySession is a Session that has more to say in CAPA.
type PolicySession interface {
	Session
	// Policy returns what holds for the connection as it is now: before login for everybody, after Open for the client. It is called for each
	// CAPA, and for names and passwords that are not UTF-8, or have a character that SASLprep prohibits.
	Policy(ctx context.Context) Policy
}

func (c *Conn) policy() Policy {
	if s, ok := c.session.(PolicySession); ok {
		return s.Policy(c.ctx)
	}
	return Policy{}
}

// cmdCapa lists the capabilities (RFC 2449 §5). The list is the same before and after login, as JavaMail asks once, before; but for STLS, which is
// announced before login only (RFC 2595 §8), and for what may differ by user.
func cmdCapa(c *Conn, arg []byte) reply {
	if !isEmpty(arg) {
		return bad(textNoArguments).with("CAPA")
	}
	_, early := c.state.(*authorization)
	p := c.policy()
	l := lines{"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"}
	if c.passwordRefusal() == nil {
		l = append(l, "USER")
	}
	if m := c.mechanisms(); len(m) > 0 {
		l = append(l, capability("SASL", m...))
	}
	if _, is := c.maySTLS(); is && early {
		l = append(l, "STLS")
	}
	if p.LoginDelay > 0 {
		seconds := int64((p.LoginDelay + time.Second - 1) / time.Second)
		l = append(l, capability("LOGIN-DELAY", strconv.FormatInt(seconds, 10), byUser(early && p.LoginDelayByUser)))
	}
	if p.Expire != 0 {
		l = append(l, capability("EXPIRE", expiry(p.Expire), byUser(early && p.ExpireByUser)))
	}
	l = append(l, capability("UTF8", byUser(p.UTF8User)), "LANG")
	if c.server.Implementation != "" {
		l = append(l, capability("IMPLEMENTATION", c.server.Implementation))
	}
	return list(textCapabilities, l)
}

func expiry(days int) string {
	switch {
	case days == ExpireAtOnce:
		return "0"
	case days < 0:
		return "NEVER"
	}
	return strconv.Itoa(days)
}

// byUser is the argument that says so.
func byUser(is bool) string {
	if is {
		return "USER"
	}
	return ""
}

// capability is a line of CAPA's: at most maxReplyLine octets with its CRLF (RFC 2449 §5), so arguments beyond that are left out. Empty ones are
// none.
func capability(tag string, arguments ...string) string {
	for _, a := range arguments {
		if a = ascii(a); a == "" {
			continue
		}
		if len(tag)+len(" ")+len(a)+len(crlf) > maxReplyLine {
			break
		}
		tag += " " + a
	}
	return tag
}

// ascii is s without what is not printable ASCII.
func ascii(s string) string { return string(voice{}.appendPrintable(nil, s)) }
