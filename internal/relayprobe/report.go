package relayprobe

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Verdict is what one probe showed.
type Verdict string

// The verdicts. Only the first two are good.
const (
	// VerdictRefused: the recipient was refused, or the message, where a client may wait for a login with the answer to it.
	VerdictRefused Verdict = "refused"
	// VerdictLocal: it was accepted, and is one of the domain's own.
	VerdictLocal Verdict = "local"
	// VerdictRelayed: mail to somebody else would have left, or was accepted to leave.
	VerdictRelayed Verdict = "RELAYED"
	// VerdictUnclear: there was no reply to RCPT that says one or the other.
	VerdictUnclear Verdict = "unclear"
)

// Result is one probe, as one sender, at one door.
type Result struct {
	Door string `json:"door"`
	// Sender is what the client is, Remote the address that it has.
	Sender string `json:"sender"`
	Remote string `json:"remote"`
	Probe  string `json:"probe"`
	// Command is the RCPT of the probe, Reply the reply to it, or to the message if that decides; "" for none.
	Command string  `json:"command"`
	Reply   string  `json:"reply"`
	Verdict Verdict `json:"verdict"`
}

// Control counts what must be accepted, so that a server that refuses everything proves nothing.
type Control struct {
	Door string `json:"door"`
	What string `json:"what"`
	// Tried is how often it was tried, Passed how often it went as it must; Reply is the reply to RCPT, the first wrong one if there is one.
	Tried  int    `json:"tried"`
	Passed int    `json:"passed"`
	Reply  string `json:"reply"`
}

// Setting is one of those that say who may send.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Report is the outcome of a relay proof.
type Report struct {
	Time    time.Time `json:"time"`
	Took    float64   `json:"took_seconds"`
	Domain  string    `json:"domain"`
	Host    string    `json:"host"`
	Address string    `json:"address,omitempty"`
	Version string    `json:"version,omitempty"`
	// How says by what way the probes went.
	How      string    `json:"how"`
	Settings []Setting `json:"settings,omitempty"`
	Results  []Result  `json:"results"`
	Controls []Control `json:"controls"`
	// Stopped says why not all probes were tried: the server talks to this client no more. Empty if they were.
	Stopped string `json:"stopped,omitempty"`
	// Passed is set when all probes were tried, none relayed or is unclear, and all controls passed. Fault is the first reason why not.
	Passed bool   `json:"passed"`
	Fault  string `json:"fault,omitempty"`
}

// Conclude sets Passed and Fault.
func (r *Report) Conclude() {
	r.Fault = r.fault()
	r.Passed = r.Fault == ""
}

func (r *Report) fault() string {
	for _, one := range r.Results {
		if one.Verdict == VerdictRelayed {
			return fmt.Sprintf("relays at %s for %s: probe %q, %s: %s", one.Door, one.Sender, one.Probe, one.Command, one.Reply)
		}
	}
	if r.Stopped != "" {
		return "not all was tried, and nothing was relayed until then: stopped " + r.Stopped
	}
	for _, one := range r.Results {
		if one.Verdict != VerdictRefused && one.Verdict != VerdictLocal {
			return fmt.Sprintf("no clear answer at %s for %s: probe %q, %s: %q", one.Door, one.Sender, one.Probe, one.Command, one.Reply)
		}
	}
	for _, c := range r.Controls {
		if c.Passed != c.Tried {
			return fmt.Sprintf("control at %s: %s: %d of %d, %q", c.Door, c.What, c.Passed, c.Tried, c.Reply)
		}
	}
	if len(r.Results) == 0 || len(r.Controls) == 0 {
		return "nothing was tried"
	}
	return ""
}

// Count is how many results have a verdict.
func (r *Report) Count(v Verdict) (n int) {
	for _, one := range r.Results {
		if one.Verdict == v {
			n++
		}
	}
	return n
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	verdict := "PASSED: nothing was relayed"
	if !r.Passed {
		verdict = "FAILED: " + r.Fault
	}
	fmt.Fprintf(&b, "Relay proof of %s\n\n", r.Host)
	rows := []Setting{
		{"verdict", verdict}, {"date", r.Time.UTC().Format(time.RFC3339)}, {"domain", r.Domain}, {"host", r.Host}, {"address", r.Address},
		{"version", r.Version}, {"how", r.How},
		{"probes", fmt.Sprintf("%d in %.3f s: %d refused, %d led to a local mailbox, %d relayed, %d unclear", len(r.Results), r.Took,
			r.Count(VerdictRefused), r.Count(VerdictLocal), r.Count(VerdictRelayed), r.Count(VerdictUnclear))},
	}
	for _, row := range rows {
		if row.Value != "" {
			fmt.Fprintf(&b, "%-9s %s\n", row.Name, Printable(row.Value))
		}
	}
	if len(r.Settings) > 0 {
		b.WriteString("\nSettings\n")
	}
	for _, s := range r.Settings {
		fmt.Fprintf(&b, "  %-18s %s\n", s.Name, Printable(s.Value))
	}
	b.WriteString("\nControls\n")
	for _, c := range r.Controls {
		fmt.Fprintf(&b, "  %s, %s: %d of %d: %s\n", c.Door, c.What, c.Passed, c.Tried, Printable(c.Reply))
	}
	group := ""
	for _, one := range r.Results {
		if g := fmt.Sprintf("\nAt %s, %s, from %s\n", one.Door, one.Sender, one.Remote); g != group {
			group = g
			b.WriteString(g)
		}
		fmt.Fprintf(&b, "  %-8s %s\n           %s\n           %s\n", one.Verdict, Printable(one.Probe), Printable(one.Command), Printable(one.Reply))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Printable is text with a question mark for everything that a terminal might take for more than text.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r == 0xFFFD || r >= 0x80 && r < 0xA0 {
			return '?'
		}
		return r
	}, text)
}
