package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/store"
)

// replies is every sentinel with its reply.
func replies() []replyCase {
	return []replyCase{
		{store.ErrNotFound, "550 5.1.1"},
		{store.ErrNotInitialised, "451 4.3.0"},
		{store.ErrExists, "451 4.3.0"},
		{store.ErrConflict, "451 4.3.0"},
		{store.ErrInvalid, "451 4.3.0"},
		{store.ErrReserved, "451 4.3.0"},
		{store.ErrBound, "451 4.3.0"},
		{store.ErrSuspended, "450 4.2.1"},
		{store.ErrMaildropFull, "452 4.2.2"},
		{store.ErrNoRecipients, "451 4.3.0"},
		{store.ErrSettled, "451 4.3.0"},
		{store.ErrLeaseLost, "451 4.3.0"},
		{store.ErrNoSpace, "452 4.3.1"},
		{store.ErrPoisoned, "451 4.3.0"},
		{store.ErrDamaged, "451 4.3.0"},
		{store.ErrClosed, "421 4.3.2"},
		{auth.ErrCredentials, "535 5.7.8"},
		{auth.ErrSuspended, "535 5.7.13"},
		{auth.ErrThrottled, "454 4.7.0"},
		{auth.ErrCleartext, "538 5.7.11"},
		{auth.ErrBusy, "454 4.7.0"},
		{auth.ErrIdentity, "535 5.7.8"},
		{message.ErrBareCR, "550 5.5.2"},
		{message.ErrBareLF, "550 5.5.2"},
		{message.ErrHeaderTooLarge, "552 5.3.4"},
		{message.ErrTooManyFields, "552 5.3.4"},
		{message.ErrHeaderLine, "550 5.6.0"},
		{message.ErrHeaderNUL, "550 5.6.0"},
		{message.ErrInjection, "550 5.6.0"},
		{mailaddr.ErrSyntax, "553 5.1.3"},
		{errPanic, "421 4.3.0"},
		{errTooLarge, "552 5.3.4"},
		{gosmtp.ErrDataTooLarge, "552 5.3.4"},
		{gosmtp.ErrTooLongLine, "554 5.6.0"},
		{errIdle, "421 4.4.2"},
		{errSlow, "421 4.4.2"},
		{errExpired, "421 4.4.2"},
		{os.ErrDeadlineExceeded, "421 4.4.2"},
		{io.ErrUnexpectedEOF, "421 4.4.2"},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, "421 4.4.2"},
		{context.Canceled, "421 4.3.2"},
		{context.DeadlineExceeded, "451 4.3.0"},
		{errors.New("/var/lib/secret: broken\r\n250 ok"), "451 4.3.0"},
		{&refusal{550, status{5, 7, 1}, "no", store.ErrNoSpace}, "550 5.7.1"},
		{refusal{421, status{4, 7, 0}, "no", nil}.because(errors.New("secret")), "421 4.7.0"},
		// Of several recipients that failed, one that can be tried again decides.
		{errors.Join(store.ErrNoRecipients, &store.RecipientError{Err: store.ErrNotFound}, &store.RecipientError{Index: 1, Err: store.ErrMaildropFull}), "452 4.2.2"},
		{errors.Join(store.ErrNoRecipients, &store.RecipientError{Err: store.ErrNotFound}), "550 5.1.1"},
		// What contradicts itself is put right.
		{&refusal{code: 450, status: status{5, 2, 1}, text: "x"}, "450 4.0.0"},
		{&refusal{code: 354, status: status{3, 0, 0}, text: "x"}, "451 4.3.0"},
		{&refusal{code: 0, text: "x"}, "451 4.3.0"},
	}
}

type replyCase struct {
	err  error
	want string
}

func TestReplyFor(t *testing.T) {
	for _, tt := range replies() {
		once := fmt.Errorf("step: %w", tt.err)
		for depth, err := range []error{tt.err, once, fmt.Errorf("secret %w in /var/lib", once)} {
			r := replyFor(err)
			got := fmt.Sprintf("%d %d.%d.%d", r.Code, r.EnhancedCode[0], r.EnhancedCode[1], r.EnhancedCode[2])
			if got != tt.want {
				t.Errorf("%v, wrapped %d times: got %s, want %s", tt.err, depth, got, tt.want)
			}
			if r.Code/100 != r.EnhancedCode[0] {
				t.Errorf("%v: first digits of %s differ", tt.err, got)
			}
			if strings.Contains(r.Message, "secret") || strings.Contains(r.Message, "/var") || strings.ContainsAny(r.Message, "\r\n") || r.Message == "" {
				t.Errorf("%v: text %q", tt.err, r.Message)
			}
		}
	}
	if replyFor(nil) != nil {
		t.Error("replyFor(nil): want nil")
	}
}

func TestOutcomesAgree(t *testing.T) {
	for _, o := range outcomes() {
		if o.reply.code/100 != o.reply.status[0] {
			t.Errorf("%v: %d %v", o.err, o.reply.code, o.reply.status)
		}
		if o.reply.text != cleanText(o.reply.text) {
			t.Errorf("%v: text %q", o.err, o.reply.text)
		}
	}
}

func TestReplyTextIsOneShortLine(t *testing.T) {
	for _, text := range []string{"a\r\n250 ok", "a\nb", "tab\tnul\x00", "é", strings.Repeat("x", maxReplyText+1)} {
		m := replyFor(&refusal{550, status{5, 0, 0}, text, nil}).Message
		if strings.ContainsFunc(m, func(r rune) bool { return r < ' ' || r > '~' }) || len(m) > maxReplyText {
			t.Errorf("%q became %q", text, m)
		}
	}
}
