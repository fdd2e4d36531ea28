package webmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"latchkey/guard"
	"latchkey/internal/readable"
	"latchkey/store"
)

// A look into a maildrop is for an emergency: it reads, and leaves everything as a mail program would find it without it. It opens messages as any
// session does, and never calls what notes that one was fetched or deleted.

const (
	// MaxMailLimit bounds the messages of one answer, DefaultMailLimit is used when none is asked for: the header of each is read.
	MaxMailLimit     = 100
	DefaultMailLimit = 25
	// MessageType is the media type of a message as it is.
	MessageType = "message/rfc822"
	// maxReaders bounds the messages that are read for people at the same time; others wait.
	maxReaders = 2
	// lookTold is how often the owner of a mailbox is told that somebody else looks into it, for each who does.
	lookTold = 24 * time.Hour
)

// MailPage is a part of a maildrop, the newest first; ask for what is before Next if it is not empty.
type MailPage struct {
	// Messages and Octets are all that the maildrop holds.
	Messages int64         `json:"messages"`
	Octets   int64         `json:"octets"`
	List     []MailSummary `json:"list"`
	Next     string        `json:"next,omitempty"`
}

// MailSummary is a message in the list. What it says of itself is escaped text, whoever wrote it.
type MailSummary struct {
	// UID is the unique-id by which POP3 calls it too (RFC 1939 §7).
	UID      string    `json:"uid"`
	Size     int64     `json:"size"`
	Received time.Time `json:"received"`
	readable.Summary
	// Damaged is set where the disk has lost it.
	Damaged bool `json:"damaged,omitempty"`
}

// Mail is one message as people can look at it.
type Mail struct {
	UID      string    `json:"uid"`
	Size     int64     `json:"size"`
	Received time.Time `json:"received"`
	// Of is the accepted message that it is a copy of: the trail knows it by that.
	Of store.MessageID `json:"of"`
	readable.Message
}

// errSuspendedMail is for a mailbox that nobody can open.
var errSuspendedMail = say("mailbox_suspended").refusal(CodeConflict)

// openDrop opens the maildrop of the mailbox that the path names. The caller closes it.
func (a *API) openDrop(r *http.Request) (store.Account, store.Maildrop, error) {
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return store.Account{}, nil, err
	}
	account, err := a.accountNamed(r.Context(), r.PathValue("name"), settings.Domain)
	if err != nil {
		return store.Account{}, nil, err
	}
	drop, err := a.store.OpenMaildrop(r.Context(), account.ID)
	if errors.Is(err, store.ErrSuspended) {
		err = errSuspendedMail
	}
	return account, drop, err
}

// listMail answers the newest messages before the one that the parameter before names.
func (a *API) listMail(r *http.Request) (any, error) {
	limit, before := DefaultMailLimit, r.URL.Query().Get("before")
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxMailLimit {
			return nil, invalid(say("whole_number_to", MaxMailLimit).of("limit"))
		}
		limit = n
	}
	_, drop, err := a.openDrop(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = drop.Close() }() // nothing was changed
	list, more, err := newest(r.Context(), drop, before, limit)
	if err != nil {
		return nil, err
	}
	usage := drop.Stat()
	page := MailPage{Messages: usage.Messages, Octets: usage.Octets, List: make([]MailSummary, 0, len(list))}
	for _, m := range list {
		s := MailSummary{UID: m.UID, Size: m.Size, Received: m.Received}
		s.Summary, err = summarise(r.Context(), drop, m.ID)
		if s.Damaged = errors.Is(err, store.ErrDamaged); err != nil && !s.Damaged {
			return nil, err
		}
		page.List = append(page.List, s)
	}
	if more {
		page.Next = list[len(list)-1].UID
	}
	return page, nil
}

// newest are the last limit messages of a maildrop, the newest first, those before a unique-id only if it is not empty. more is set if there are
// older ones. Unique-ids grow with the order of arrival, so one that is gone has its place still.
func newest(ctx context.Context, drop store.Maildrop, before string, limit int) (list []store.Message, more bool, err error) {
	all, err := drop.Messages(ctx)
	if err != nil {
		return nil, false, err
	}
	ring, n := make([]store.Message, limit), 0
	for m := range all {
		if before != "" && m.UID >= before {
			break
		}
		ring[n%limit] = m
		n++
	}
	for i := range min(n, limit) {
		list = append(list, ring[(n-1-i)%limit])
	}
	return list, n > limit, nil
}

func summarise(ctx context.Context, drop store.Maildrop, id store.CopyID) (readable.Summary, error) {
	r, err := drop.OpenHeader(ctx, id)
	if err != nil {
		return readable.Summary{}, err
	}
	defer func() { _ = r.Close() }() // it was read
	return readable.Summarise(r)
}

// openMail opens the message that the path names, and sees to it that whoever looks at another's is seen. The caller closes both.
func (a *API) openMail(r *http.Request, action string) (m store.Message, drop store.Maildrop, body io.ReadCloser, err error) {
	account, opened, err := a.openDrop(r)
	if err != nil {
		return m, nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = opened.Close() // nothing was changed
		}
	}()
	list, err := opened.Messages(r.Context())
	if err != nil {
		return m, nil, nil, err
	}
	for one := range list {
		if one.UID == r.PathValue("uid") {
			m = one
		}
	}
	if m.ID == 0 {
		return m, nil, nil, say("no_message").refusal(CodeNotFound)
	}
	if err := a.seen(r.Context(), account, m, action); err != nil {
		return m, nil, nil, err
	}
	body, err = opened.OpenMessage(r.Context(), m.ID)
	return m, opened, body, err
}

// seen notes in the audit log that somebody looks at a message in a mailbox that is not his own, and tells its owner. Without the note nothing is
// shown.
func (a *API) seen(ctx context.Context, account store.Account, m store.Message, action string) error {
	actor := actorOf(ctx)
	if actor.Account == account.ID {
		return nil
	}
	if err := a.audit(ctx, action, account.Name, nil, map[string]string{"uid": m.UID, "message": m.Of.String()}); err != nil {
		return err
	}
	key := fmt.Sprintf("look/%d/%.100s", account.ID, actor.Name)
	taken, err := a.store.Take(ctx, a.now(), key, 1, store.Limit{N: 1, Window: lookTold})
	if err != nil || !taken.OK {
		return err
	}
	told := &Notices{Store: a.store, Now: a.now, Logger: a.log}
	told.Tell(ctx, guard.Notice{
		Account: account.ID, Owner: true, Subject: "Somebody looked into your mailbox",
		Lines: []string{
			fmt.Sprintf("%s opened a message in the mailbox {mailbox} by the Webmanager at %s. Whoever manages the domain can do so in an emergency; it is "+
				"written into the list of changes.", plainText(actor.Name), a.now().UTC().Format(time.RFC3339)),
			"Nothing was changed or deleted, and your mail program fetches your mail as before. Further messages that are opened within a day are in that " +
				"list, and you are not told of each. If you do not know why, ask whoever manages the domain.",
		},
	})
	return nil
}

// readTurn waits for a turn to read a message; done ends it.
func (a *API) readTurn(ctx context.Context) (done func(), err error) {
	select {
	case a.readers <- struct{}{}:
		return func() { <-a.readers }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// showMail answers one message as text.
func (a *API) showMail(r *http.Request) (any, error) {
	done, err := a.readTurn(r.Context())
	if err != nil {
		return nil, err
	}
	defer done()
	m, drop, body, err := a.openMail(r, "maildrop.read")
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = body.Close(), drop.Close() }() // they were read
	answer := Mail{UID: m.UID, Size: m.Size, Received: m.Received, Of: m.Of}
	answer.Message, err = readable.Read(&untilDone{r.Context(), body})
	if err != nil {
		return nil, withDamage(err)
	}
	return answer, nil
}

// untilDone is a reader that ends with a context.
type untilDone struct {
	ctx context.Context // of one reading
	io.Reader
}

// Read implements io.Reader.
func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}

// rawMail streams one message as it is. What goes wrong after the first octet breaks the answer off.
func (a *API) rawMail(w http.ResponseWriter, r *http.Request) {
	m, drop, body, err := a.openMail(r, "maildrop.download")
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	defer func() { _, _ = body.Close(), drop.Close() }() // they were read
	h := w.Header()
	h.Set("Content-Type", MessageType)
	h.Set("Content-Length", strconv.FormatInt(m.Size, 10))
	h.Set("Content-Disposition", `attachment; filename="`+m.UID+`.eml"`)
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Trailer", refusalTrailer)
	out := &rollingWriter{w: w, control: http.NewResponseController(w), stall: a.backupStall, media: MessageType}
	_, err = io.Copy(out, &untilDone{r.Context(), body})
	switch {
	case err != nil && !out.begun:
		for _, name := range []string{"Content-Length", "Content-Disposition", "Trailer"} {
			h.Del(name)
		}
		a.refuse(w, r, withDamage(err))
	case err != nil:
		text, _ := json.Marshal(a.refusal(r, withDamage(err))) // it is three strings
		h.Set(refusalTrailer, string(text))
	}
}
