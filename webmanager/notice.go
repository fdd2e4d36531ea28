package webmanager

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

const (
	// noticeTime bounds the delivery of one notice.
	noticeTime = 30 * time.Second
	// noticeWidth is where its lines are broken, in octets; RFC 5322 §2.1.1 allows 998 and prefers 78. No word in it is nearly as long.
	noticeWidth = 76
)

// worthNotice reports whether postmaster is told of a change: it allows more than before or removes mail, or AUTH is wanted again.
func worthNotice(before, after store.Settings) bool {
	return loosens(before, after) || destroys(before, after) || before.RequireAuth != after.RequireAuth
}

// notify puts a notice of a change into the maildrops that postmaster leads to, so that nobody who may change the settings can do so
// unseen. The change stands if that fails, and the audit log has it in any case.
func (a *API) notify(ctx context.Context, before, after store.Settings) {
	if !worthNotice(before, after) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noticeTime)
	defer cancel()
	if err := a.deliverNotice(ctx, before, after); err != nil {
		a.log.Error("postmaster was not told of a change of settings", "err", err)
	}
}

func (a *API) deliverNotice(ctx context.Context, before, after store.Settings) error {
	postmaster, err := mailaddr.New("postmaster", after.Domain)
	if err != nil {
		return err
	}
	route, err := a.store.Resolve(ctx, postmaster)
	if err != nil {
		return err
	}
	p, err := a.preview(ctx, before, after)
	if err != nil {
		return err
	}
	actor, _ := ctx.Value(actorKey{}).(Actor) // answer and Run saw to it
	l := letter{
		from: postmaster, to: postmaster, subject: "The settings of " + after.Domain + " were changed", kind: "settings", now: a.now(),
		body: notice(postmaster, actor.Name, a.now(), p),
	}
	for _, account := range route.Local {
		l.recipients = append(l.recipients, localCopy(postmaster, account))
	}
	return deliverLetter(ctx, a.store, l)
}

// notice writes the text, whose lines end with CRLF.
func notice(to mailaddr.Address, actor string, now time.Time, p SettingsPreview) []byte {
	var b bytes.Buffer
	wrap := func(text, indent string) {
		for _, l := range broken(text, noticeWidth-len(indent)) {
			b.WriteString(indent + l + "\r\n")
			indent = strings.Repeat(" ", len(indent))
		}
	}
	line := func() { b.WriteString("\r\n") }
	wrap(fmt.Sprintf("%s changed the settings of %s at %s.", plainText(actor), to.Domain(), now.UTC().Format(time.RFC3339)), "")
	line()
	for _, c := range p.Changes {
		wrap(fmt.Sprintf("%s: %s, before: %s", c.Name, orNothing(c.After), orNothing(c.Before)), "  ")
	}
	line()
	for _, sentence := range p.Consequences {
		wrap(sentence, "- ")
	}
	line()
	wrap("If that was not meant to be, look at the pages Changes and Who may send, or at latchkey audit and latchkey settings.", "")
	return b.Bytes()
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return plainText(text)
}

// plainText is text that fits into a line of a message.
func plainText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
}

// broken breaks text between words, and behind commas, into lines of at most width octets; a longer word stays whole.
func broken(text string, width int) []string {
	var lines []string
	current := ""
	for _, word := range strings.Fields(strings.ReplaceAll(text, ",", ", ")) {
		switch {
		case current == "":
			current = word
		case len(current)+1+len(word) > width:
			lines = append(lines, current)
			current = word
		default:
			current += " " + word
		}
	}
	return append(lines, current)
}
