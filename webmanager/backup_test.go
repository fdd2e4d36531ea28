package webmanager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/store"
	"latchkey/store/memstore"
)

// archivingStore answers backups as it is told.
type archivingStore struct {
	*memstore.Store
	archive func(ctx context.Context, have io.Reader, w io.Writer) error
}

func (s archivingStore) Archive(ctx context.Context, have io.Reader, w io.Writer) error {
	return s.archive(ctx, have, w)
}

func (s archivingStore) Compact(context.Context) (store.Compaction, error) {
	return store.Compaction{IndexBefore: 4, IndexAfter: 3, JournalBefore: 2, JournalAfter: 1}, nil
}

// bothWays calls do with a client in this process and one by the control socket.
func bothWays(t *testing.T, api *API, do func(t *testing.T, c *Client)) {
	t.Helper()
	t.Run("in process", func(t *testing.T) { do(t, InProcess(api, Actor{Role: RoleOperator, Name: "tester"})) })
	t.Run("socket", func(t *testing.T) {
		dir := t.TempDir()
		control, err := ListenControl(dir, api, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- control.Serve() }()
		c, err := DialControl(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		do(t, c)
		c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(control.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
}

func readBackup(t *testing.T, c *Client, have io.Reader) (string, error) {
	t.Helper()
	stream, err := c.Stream(t.Context(), "POST", "/v1/backup", ManifestType, have)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(stream)
	return string(b), errors.Join(err, stream.Close())
}

func TestBackupStream(t *testing.T) {
	const large = 3 << 20
	s := archivingStore{Store: memstore.New(domain), archive: func(_ context.Context, have io.Reader, w io.Writer) error {
		b, err := io.ReadAll(have)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "for %s: %s", b, strings.Repeat("x", large))
		return err
	}}
	bothWays(t, New(Options{Store: s, Hasher: fakeHasher{}}), func(t *testing.T, c *Client) {
		got, err := readBackup(t, c, strings.NewReader("a manifest"))
		if err != nil || !strings.HasPrefix(got, "for a manifest: xxx") || len(got) < large {
			t.Errorf("got %d octets, %v", len(got), err)
		}
		if got, err = readBackup(t, c, nil); err != nil || !strings.HasPrefix(got, "for : xxx") {
			t.Errorf("without a manifest: got %d octets, %v", len(got), err)
		}
		var result Compacted
		if err := c.Do(t.Context(), "POST", "/v1/compact", nil, &result); err != nil || result.JournalAfter != 1 || result.IndexBefore != 4 {
			t.Errorf("compact: %+v, %v", result, err)
		}
	})
	entries, err := s.ListAudit(t.Context(), 0, 10)
	if err != nil || len(entries) != 6 || entries[0].Action != "compact" || entries[1].Action != "backup" {
		t.Errorf("audit: %+v, %v", entries, err)
	}
}

// TestBackupRefusals: what goes wrong is said, before the first octet and after it.
func TestBackupRefusals(t *testing.T) {
	for _, tt := range []struct {
		err   error
		code  Code
		words string
	}{
		{fmt.Errorf("%w: another", store.ErrBusy), CodeUnavailable, "that is being done already"},
		{fmt.Errorf("x: %w", store.ErrNoSpace), CodeUnavailable, "the disk is full"},
		{fmt.Errorf("%w: that is a backup of x", store.ErrInvalid), CodeInvalid, "that is a backup of x"},
		{fmt.Errorf("%w: segment 7 is missing", store.ErrDamaged), CodeDamaged, "something that is stored is damaged: segment 7 is missing; see latchkey check"},
		{errors.New("a path in /var/lib"), CodeInternal, "something failed inside"},
		{context.Canceled, CodeUnavailable, "stopping"},
	} {
		for _, sent := range []int{0, 1, 100_000} {
			s := archivingStore{Store: memstore.New(domain), archive: func(_ context.Context, _ io.Reader, w io.Writer) error {
				if sent > 0 {
					if _, err := w.Write(make([]byte, sent)); err != nil {
						return err
					}
				}
				return tt.err
			}}
			bothWays(t, New(Options{Store: s, Hasher: fakeHasher{}}), func(t *testing.T, c *Client) {
				got, err := readBackup(t, c, nil)
				if !isCode(err, tt.code) || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "/var/lib") || len(got) != sent {
					t.Errorf("%v after %d octets: got %d octets, %v", tt.err, sent, len(got), err)
				}
			})
			if entries, err := s.ListAudit(t.Context(), 0, 10); err != nil || len(entries) > 0 {
				t.Errorf("%v: audit: %+v, %v", tt.err, entries, err)
			}
		}
	}
	bothWays(t, New(Options{Store: memstore.New(domain), Hasher: fakeHasher{}}), func(t *testing.T, c *Client) {
		if _, err := readBackup(t, c, nil); !isCode(err, CodeUnavailable) {
			t.Errorf("memory: %v", err)
		}
		if err := c.Do(t.Context(), "POST", "/v1/compact", nil, nil); !isCode(err, CodeUnavailable) {
			t.Errorf("memory: compact: %v", err)
		}
	})
}

// TestBackupBounds: a manifest at its bound and beyond it, and a receiver that takes nothing.
func TestBackupBounds(t *testing.T) {
	const bound = 1000
	s := archivingStore{Store: memstore.New(domain), archive: func(_ context.Context, have io.Reader, w io.Writer) error {
		b, err := io.ReadAll(have)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}}
	api := New(Options{Store: s, Hasher: fakeHasher{}})
	api.maxManifest = bound
	bothWays(t, api, func(t *testing.T, c *Client) {
		for n := bound - 1; n <= bound+1; n++ {
			got, err := readBackup(t, c, bytes.NewReader(make([]byte, n)))
			if n <= bound && (err != nil || len(got) != n) || n > bound && !isCode(err, CodeTooLarge) {
				t.Errorf("%d octets: got %d, %v", n, len(got), err)
			}
		}
	})

	ended := make(chan error, 1)
	s.archive = func(ctx context.Context, _ io.Reader, w io.Writer) error {
		var err error
		for err == nil && ctx.Err() == nil {
			_, err = w.Write(make([]byte, 64<<10))
		}
		ended <- errors.Join(err, ctx.Err())
		return err
	}
	api = New(Options{Store: s, Hasher: fakeHasher{}})
	api.backupStall = 50 * time.Millisecond
	t.Run("stalled", func(t *testing.T) {
		bothWays(t, api, func(t *testing.T, c *Client) {
			stream, err := c.Stream(t.Context(), "POST", "/v1/backup", ManifestType, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, local := c.transport.(direct); local {
				_ = stream.Close() // in this process nobody stalls: whoever reads goes on or closes
			}
			select {
			case err := <-ended:
				if err == nil {
					t.Error("it ended well")
				}
			case <-time.After(time.Minute):
				t.Error("the backup of a receiver that takes nothing goes on")
			}
			_ = stream.Close() // it is broken
		})
	})
}

// TestTellLost: everybody who lost mail gets one notice, with all of it; who cannot be told is named.
func TestTellLost(t *testing.T) {
	s := memstore.New(domain)
	var accounts []store.Account
	for _, name := range []string{"anna", "bert", "carl"} {
		a, err := s.AddAccount(t.Context(), store.Account{Name: name, Suspended: name == "carl"})
		if err != nil {
			t.Fatal(err)
		}
		accounts = append(accounts, a)
	}
	now := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	lost := []store.Lost{
		{Account: accounts[0].ID, UID: "000000010000000000000001", Message: 1, Sender: addresses(t, "x@out.example")[0], HeaderID: "<one@out.example>", Size: 77, Received: now},
		{Account: accounts[0].ID, UID: "000000010000000000000002", Message: 2, HeaderID: "<two\x1b[2J>"},
		{Submitter: accounts[1].ID, Message: 1, Recipient: addresses(t, "y@other.example")[0], Received: now},
		{Submitter: 0, Message: 3}, // sent by nobody of this domain
		{Account: accounts[2].ID, UID: "000000010000000000000003", Message: 4},
		{Account: 99, UID: "000000010000000000000004", Message: 4},
	}
	err := TellLost(t.Context(), s, lost, now)
	for _, words := range []string{"(carl) was not told", "mailbox 99 () was not told"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("got %v, want %q", err, words)
		}
	}
	for id, words := range map[store.AccountID][]string{
		accounts[0].ID: {
			"Subject: Mail that was lost\r\n", "To: <anna@" + domain + ">\r\n", "Auto-Submitted: auto-generated\r\n", "Return-Path: <>\r\n",
			"- from <x@out.example>, received 2026-04-01T12:00:00Z, 77 octets,", "<one@out.example>", "000000010000000000000001", "<two?[2J>",
		},
		accounts[1].ID: {"- to <y@other.example>, not delivered, received 2026-04-01T12:00:00Z"},
	} {
		m, err := s.OpenMaildrop(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		list, err := m.Messages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		messages := slices.Collect(list)
		if len(messages) != 1 {
			t.Fatalf("account %d has %d messages", id, len(messages))
		}
		r, err := m.OpenMessage(t.Context(), messages[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close(), m.Close()); err != nil {
			t.Fatal(err)
		}
		for _, w := range words {
			if !strings.Contains(string(b), w) {
				t.Errorf("account %d: %q is not in %q", id, w, b)
			}
		}
		for line := range strings.SplitSeq(string(b), "\r\n") {
			if len(line) > 998 || strings.ContainsAny(line, "\r\n\x1b") {
				t.Errorf("a line of %d octets: %q", len(line), line)
			}
		}
	}
	var many []store.Lost
	for range maxToldLost + 3 {
		many = append(many, store.Lost{Account: 1})
	}
	for n, want := range map[int]string{maxToldLost: "", maxToldLost + 1: "- and 1 more", maxToldLost + 3: "- and 3 more"} {
		_, body := lostNotice(addresses(t, "a@b.example")[0], addresses(t, "c@b.example")[0], "<id>", many[:n], now)
		if !strings.Contains(string(body), want) || want == "" && strings.Contains(string(body), " more") {
			t.Errorf("%d lost: %q is not there", n, want)
		}
	}
}
