package relayprobe

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// wireProof is a proof over the wire.
type wireProof struct {
	dial   func(context.Context) (net.Conn, error)
	report *Report
	target Target
	// stray is the reply to an address of the domain that nobody has.
	stray    string
	controls Control
}

// OverWire tries every probe on a server by its replies: address is host:port, domain what it serves. It never sends a message, so that nobody
// gets one where a recipient is accepted. What it cannot see is where an address of the domain leads that was accepted: it is taken for a
// local one only if an address that nobody has is accepted too, as by a catch-all. The report stands for what somebody at this machine's
// address meets: run it where no network of the owner's is. The error says that the server cannot be reached at all.
func OverWire(ctx context.Context, address, domain string, now func() time.Time) (Report, error) {
	began := time.Now()
	p := &wireProof{
		report: &Report{Time: now(), Domain: domain, Address: address, How: "over the wire, by replies alone, without a login"},
		dial:   func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", address) },
	}
	if err := p.meet(ctx); err != nil {
		return Report{}, fmt.Errorf("%s: %w", address, err)
	}
	probes := p.target.Probes()
	for i, probe := range probes {
		if err := p.try(ctx, probe); err != nil {
			p.report.Stopped = fmt.Sprintf("after %d of %d probes: %v", i+1, len(probes), err)
			break
		}
	}
	p.report.Controls = []Control{p.controls}
	p.report.Took = time.Since(began).Seconds()
	p.report.Conclude()
	return *p.report, ctx.Err()
}

func (p *wireProof) connect(ctx context.Context) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, DialogueTime)
	defer cancel()
	conn, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	return NewClient(context.WithoutCancel(ctx), conn)
}

// meet learns the server's name and address, and how it answers an address of the domain that nobody has.
func (p *wireProof) meet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, DialogueTime)
	defer cancel()
	conn, err := p.dial(ctx)
	if err != nil {
		return err
	}
	at, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	from, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	c, err := NewClient(ctx, conn)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing more is wanted of it
	p.report.Host, _, _ = strings.Cut(strings.TrimPrefix(c.Greeting, "220 "), " ")
	p.report.How += ", from " + from.Addr().Unmap().String()
	p.target = Target{
		Domain: p.report.Domain, Host: p.report.Host, Address: at.Addr().Unmap().String(),
		Sender: "postmaster@" + p.report.Domain, Recipient: "postmaster@" + p.report.Domain,
	}
	p.controls = Control{Door: p.report.Address, What: "RCPT of " + p.target.Recipient + ", between the probes"}
	c.Say("EHLO client.example\r\n")
	c.Say("MAIL FROM:<" + Stranger + ">\r\n")
	p.stray = c.Say("RCPT TO:<relay-proof-" + strings.ToLower(rand.Text()) + "@" + p.report.Domain + ">\r\n")
	c.Say("QUIT\r\n")
	return nil
}

// try plays a probe, and then the control over the same connection, or over another one if the server has ended it. An error ends the proof: the
// server is not to be had any more.
func (p *wireProof) try(ctx context.Context, probe Probe) error {
	result := Result{
		Door: p.report.Address, Sender: "anonymous", Remote: "this machine", Probe: probe.Name, Command: probe.Command(), Verdict: VerdictUnclear,
	}
	c, err := p.connect(ctx)
	if err != nil {
		result.Reply = err.Error()
		p.report.Results = append(p.report.Results, result)
		return err
	}
	result.Reply = probe.Ask(Stranger, c.Say)
	switch {
	case Accepted(result.Reply) && p.target.owns(probe.Command()) && Accepted(p.stray):
		result.Verdict = VerdictLocal
	case Accepted(result.Reply):
		result.Verdict = VerdictRelayed
	case Refused(result.Reply):
		result.Verdict = VerdictRefused
	}
	p.report.Results = append(p.report.Results, result)
	c.Say("RSET\r\n")
	if c.Err() != nil {
		_ = c.Close() // the server has ended it
		if c, err = p.connect(ctx); err != nil {
			return err
		}
		c.Say("EHLO client.example\r\n")
	}
	defer func() { _ = c.Close() }() // nothing more is wanted of it
	p.control(c)
	c.Say("QUIT\r\n")
	return ctx.Err()
}

// control asks for a mailbox that every domain has (RFC 5321 §4.5.1). A server that wants AUTH first, as at submission, may say so instead.
func (p *wireProof) control(c *Client) {
	mail := c.Say("MAIL FROM:<" + Stranger + ">\r\n")
	reply := c.Say("RCPT TO:<" + p.target.Recipient + ">\r\n")
	good := Accepted(reply)
	if strings.HasPrefix(mail, "530 ") || strings.HasPrefix(reply, "530 ") { // RFC 4954 §6
		good = true
		if strings.HasPrefix(mail, "530 ") {
			reply = mail
		}
	}
	c.Say("RSET\r\n")
	p.controls.Tried++
	if good {
		p.controls.Passed++
	}
	if p.controls.Reply == "" || !good && p.controls.Passed == p.controls.Tried-1 {
		p.controls.Reply = reply
	}
}

// owns reports whether the address in a RCPT is one of the target's domain, or has no domain.
func (t Target) owns(command string) bool {
	_, path, _ := strings.Cut(command, ":")
	path, _, _ = strings.Cut(strings.TrimSpace(path), "> ") // parameters
	path = strings.Trim(path, "<> ")
	if strings.HasPrefix(path, "@") { // a source route (RFC 5321 §4.1.2)
		_, path, _ = strings.Cut(path, ":")
	}
	i := strings.LastIndex(path, "@")
	if i < 0 || strings.HasSuffix(path, `"`) {
		return true
	}
	domain := path[i+1:]
	return strings.EqualFold(domain, t.Domain) || domain == t.literal()
}
