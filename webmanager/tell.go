package webmanager

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// NoticeStore is what Notices need of the store.
type NoticeStore interface {
	Account(ctx context.Context, id store.AccountID) (store.Account, error)
	Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error)
	NewDraft(ctx context.Context) (store.Draft, error)
	Settings(ctx context.Context) (store.Settings, error)
}

// Notices puts notices into the maildrops of those whom they concern. The zero value does nothing but fail.
type Notices struct {
	Store  NoticeStore
	Now    func() time.Time
	Logger *slog.Logger
}

// Tell implements guard.Notices.
func (n *Notices) Tell(ctx context.Context, notice guard.Notice) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noticeTime)
	defer cancel()
	if err := n.tell(ctx, notice); err != nil {
		n.Logger.Error("a notice could not be delivered", "subject", notice.Subject, "account", uint64(notice.Account), "err", err)
	}
}

func (n *Notices) tell(ctx context.Context, notice guard.Notice) error {
	settings, err := n.Store.Settings(ctx)
	if err != nil {
		return err
	}
	name := ""
	if notice.Account != 0 {
		account, err := n.Store.Account(ctx, notice.Account)
		if errors.Is(err, store.ErrNotFound) {
			name = fmt.Sprintf("removed mailbox %d", notice.Account)
		} else if err != nil {
			return err
		} else {
			name = account.Name
		}
	}
	postmaster, err := mailaddr.New("postmaster", settings.Domain)
	if err != nil {
		return err
	}
	to := postmaster
	var recipients []store.Recipient
	if notice.Owner && notice.Account != 0 {
		if owner, err := mailaddr.New(name, settings.Domain); err == nil {
			to = owner
			recipients = append(recipients, localCopy(owner, notice.Account))
		}
	}
	if notice.Postmaster {
		route, err := n.Store.Resolve(ctx, postmaster)
		if err != nil {
			return err
		}
		for _, account := range route.Local {
			recipients = append(recipients, localCopy(postmaster, account))
		}
	}
	named := strings.NewReplacer("{mailbox}", plainText(name))
	var body bytes.Buffer
	for i, text := range notice.Lines {
		if i > 0 {
			body.WriteString("\r\n")
		}
		for _, l := range broken(named.Replace(text), noticeWidth) {
			body.WriteString(l + "\r\n")
		}
	}
	return deliverLetter(ctx, n.Store, letter{
		from: postmaster, to: to, recipients: recipients, subject: named.Replace(notice.Subject), kind: "notice", now: n.Now(), body: body.Bytes(),
	})
}

// letter is a message that this server writes.
type letter struct {
	from, to      mailaddr.Address
	recipients    []store.Recipient
	subject, kind string
	now           time.Time
	body          []byte
}

// localCopy is a recipient in our own store. RFC 5321 §4.4: final delivery adds the Return-Path; a notice has the null one.
func localCopy(to mailaddr.Address, account store.AccountID) store.Recipient {
	return store.Recipient{Address: to, Account: account, Prefix: []byte("Return-Path: <>\r\nDelivered-To: " + to.String() + "\r\n")}
}

func deliverLetter(ctx context.Context, st interface {
	NewDraft(ctx context.Context) (store.Draft, error)
}, l letter) error {
	if len(l.recipients) == 0 {
		return fmt.Errorf("webmanager: %s leads nowhere", l.to)
	}
	var h bytes.Buffer
	id := "<" + l.kind + "." + rand.Text() + "@" + l.from.Domain() + ">"
	for _, line := range []string{
		fmt.Sprintf("From: Latchkey <%s>", l.from),
		fmt.Sprintf("To: <%s>", l.to),
		"Subject: " + l.subject,
		"Date: " + l.now.Format(time.RFC1123Z),
		"Message-ID: " + id,
		"Auto-Submitted: auto-generated", // RFC 3834 §5
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"Content-Transfer-Encoding: 8bit",
		"",
	} {
		h.WriteString(line + "\r\n")
	}
	draft, err := st.NewDraft(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = draft.Abort() }() // nothing to do after Commit
	if _, err := draft.Write(append(h.Bytes(), l.body...)); err != nil {
		return err
	}
	_, err = draft.Commit(ctx, store.Envelope{
		Received: l.now, HeaderLen: int64(h.Len()), HeaderID: id, EightBit: true, Origin: store.Origin{Door: "local"}, Recipients: l.recipients,
	})
	return err
}
