package maildrop

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/store/memstore"
)

// TestExpirer: messages go when they are older than the domain keeps them, within expireEvery, and none goes sooner, or while nothing is set.
func TestExpirer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New("example.com")
		defer func() { _ = st.Close() }()
		var ids []store.AccountID
		for _, name := range []string{"anna", "bert", "carl"} {
			a, err := st.AddAccount(t.Context(), store.Account{Name: name, Suspended: name == "bert"})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, a.ID)
		}
		deliver := func(name string, id store.AccountID) {
			d, err := st.NewDraft(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			const text = "Subject: old\r\n\r\n"
			if _, err := d.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			address, err := mailaddr.New(name, "example.com")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Commit(t.Context(), store.Envelope{Received: time.Now(), HeaderLen: int64(len(text)), Recipients: []store.Recipient{{Address: address, Account: id}}}); err != nil {
				t.Fatal(err)
			}
		}
		count := func(id store.AccountID) int64 {
			u, err := st.Usage(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			return u.Messages
		}
		set := func(days int) {
			s, err := st.Settings(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.ExpireDays = days
			if _, err := st.UpdateSettings(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(anna, carl int64) {
			t.Helper()
			synctest.Wait()
			if a, c := count(ids[0]), count(ids[2]); a != anna || c != carl {
				t.Errorf("anna has %d messages, carl %d; want %d and %d", a, c, anna, carl)
			}
		}
		var log strings.Builder
		e := &Expirer{Store: st, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { e.Run(ctx); close(ended) }()

		const day = 24 * time.Hour
		deliver("anna", ids[0])
		deliver("carl", ids[2])
		time.Sleep(10 * day)
		deliver("anna", ids[0])
		expect(2, 1) // nothing is set
		set(11)
		expect(2, 1)
		time.Sleep(day - time.Minute)
		expect(2, 1)
		time.Sleep(expireEvery + time.Minute)
		expect(1, 0)
		set(0)
		time.Sleep(100 * day)
		expect(1, 0)
		set(3650)
		expect(1, 0)
		set(1)
		expect(0, 0)

		// A mailbox of its own mind, whose change counts from the next look on.
		own := func(id store.AccountID, days int) {
			a, err := st.Account(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			a.ExpireDays = days
			if _, err := st.UpdateAccount(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		deliver("anna", ids[0])
		deliver("carl", ids[2])
		own(ids[2], store.ExpireNever)
		time.Sleep(2 * day)
		expect(0, 1) // never is never, whatever the domain says
		own(ids[2], 4)
		set(0)
		deliver("anna", ids[0])
		time.Sleep(2*day - time.Minute)
		expect(1, 1)
		time.Sleep(expireEvery + time.Minute)
		expect(1, 0) // though the domain says never
		set(1)
		own(ids[0], 30)
		deliver("anna", ids[0])
		time.Sleep(5 * day)
		expect(2, 0) // longer than the domain
		own(ids[0], 0)
		time.Sleep(expireEvery)
		expect(0, 0)
		cancel()
		<-ended
		if !strings.Contains(log.String(), "account=anna messages=1") || strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("the log has %s", &log)
		}
	})
}
