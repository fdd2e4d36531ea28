package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// quotas sets octets that mailboxes and the domain may hold, as "bob=1000 domain=2000".
func (f *fixture) quotas(words string) {
	f.t.Helper()
	for word := range strings.FieldsSeq(words) {
		var octets int64
		name, n, _ := strings.Cut(word, "=")
		if _, err := fmt.Sscan(n, &octets); err != nil {
			f.t.Fatalf("quota %q: %v", word, err)
		}
		if name == "domain" {
			f.settings(func(s *store.Settings) { s.DomainOctets = octets })
			continue
		}
		f.update(name, func(a *store.Account) { a.Quota.Octets = octets })
	}
}

// leaving is how long sessions that were cut off may take to end.
const leaving = 2 * time.Second

// nothingHeld is part of every test: when the server has stopped and its sessions have ended, no transaction holds room any more.
func (f *fixture) nothingHeld() {
	f.t.Helper()
	ctx := context.Background()
	probe, err := f.store.AddAccount(ctx, store.Account{Name: "probe"})
	f.must(err)
	u, err := f.store.DomainUsage(ctx)
	f.must(err)
	f.settings(func(s *store.Settings) { s.DomainOctets, s.DomainMessages = 0, u.Messages+1 })
	if f.wait != nil {
		f.wait()
	}
	_, err = f.store.Reserve(ctx, probe.ID, 1)
	for end := time.Now().Add(leaving); err != nil && f.wait == nil && time.Now().Before(end); runtime.Gosched() {
		_, err = f.store.Reserve(ctx, probe.ID, 1)
	}
	if err != nil {
		f.t.Errorf("room is held that nobody gave back: %v", err)
	}
}

// roomy is a client on pipes that has greeted.
func (p *pipes) roomy(f *fixture, remote string) *client {
	c, _ := p.dialFrom(f, remote)
	c.expect("220 ")
	c.ask("EHLO client.example", "250 ")
	return c
}

// endings are the ways in which a transaction with room ends by what the client does; cuts are those by what it does not do.
func endings() map[string]func(f *fixture, c *client) {
	const small = "Subject: small\r\n\r\n"
	return map[string]func(f *fixture, c *client){
		"RSET": func(_ *fixture, c *client) { c.ask("RSET", "250 ") },
		"QUIT": func(_ *fixture, c *client) { c.ask("QUIT", "221 ") },
		"EHLO": func(_ *fixture, c *client) { c.ask("EHLO client.example", "250 ") },
		"lost": func(f *fixture, c *client) { f.must(c.conn.Close()) },
		"lost in DATA": func(f *fixture, c *client) {
			c.ask("DATA", "354 ")
			c.send(small)
			f.must(c.conn.Close())
		},
		"accepted": func(_ *fixture, c *client) {
			c.ask("DATA", "354 ")
			c.send(small + ".\r\n")
			c.expect("250 ")
		},
		"refused": func(_ *fixture, c *client) {
			c.ask("DATA", "354 ")
			c.send("Subject: bare\rCR\r\n\r\n.\r\n")
			c.expect("550 5.5.2")
		},
		"larger than declared": func(_ *fixture, c *client) {
			c.ask("DATA", "354 ")
			c.send(bodyOf(900) + ".\r\n")
			c.expect("452 4.2.2")
		},
		"BDAT given up": func(_ *fixture, c *client) {
			c.send("BDAT 7\r\nSubject")
			c.expect("250 ")
			c.ask("RSET", "250 ")
		},
		"BDAT lost": func(f *fixture, c *client) {
			c.send("BDAT 7\r\nSubject")
			c.expect("250 ")
			f.must(c.conn.Close())
		},
	}
}

func cuts() map[string]func(f *fixture, c *client) {
	return map[string]func(f *fixture, c *client){
		"silence": func(f *fixture, c *client) {
			c.expect("421 4.4.2")
			c.closed()
		},
		"slower than the least rate": func(_ *fixture, c *client) {
			c.ask("DATA", "354 ")
			over := make(chan struct{})
			go func() {
				defer close(over)
				for {
					time.Sleep(10 * time.Second)
					if _, err := io.WriteString(c.conn, "x\r\n"); err != nil {
						return
					}
				}
			}()
			c.expect("421 4.4.2")
			c.closed()
			<-over
		},
		"never silent, and never a message": func(_ *fixture, c *client) {
			for range 3 {
				time.Sleep(4 * time.Minute)
				c.ask("NOOP", "250 ")
			}
			c.expect("421 4.4.2")
			c.closed()
		},
		"only talk": func(f *fixture, c *client) {
			over := make(chan struct{})
			go func() {
				defer close(over)
				_, _ = io.WriteString(c.conn, strings.Repeat("NOOP\r\n", 5000)) // it is cut off
			}()
			for line := "250 "; line[0] == '2'; {
				if line = c.reply(); line[0] != '2' && !strings.HasPrefix(line, "421 4.4.0") {
					f.t.Errorf("got %q", line)
				}
			}
			c.closed()
			<-over
		},
	}
}

// Room that one sender has reserved is nobody else's until its transaction ends, however it ends; then the next one has it.
func TestRoomIsHeldUntilTheEnd(t *testing.T) {
	all := endings()
	maps.Copy(all, cuts())
	for name, end := range all {
		t.Run(name, func(t *testing.T) {
			onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
				f.quotas("bob=1000")
				first := p.roomy(f, "192.0.2.1")
				first.ask("MAIL FROM:<x@remote.example> SIZE=600", "250 ")
				first.ask("RCPT TO:<bob@example.com>", "250 ")
				first.ask("MAIL FROM:<x@remote.example>", "503 ") // changes nothing
				first.ask("RCPT TO:<nobody@example.com>", "550 ") // neither
				tries := func(want string) {
					t.Helper()
					next := p.roomy(f, "198.51.100.1")
					next.ask("MAIL FROM:<y@remote.example> SIZE=600", "250 ")
					next.ask("RCPT TO:<bob@example.com>", want)
					next.ask("RCPT TO:<alice@example.com>", "250 ")
					next.ask("QUIT", "221 ")
				}
				tries("452 4.2.2 Mailbox is full, try again later")
				end(f, first)
				synctest.Wait()
				tries("250 ")
			})
		})
	}
}

// A mailbox that is full to the octet is refused at RCPT whatever was declared, and nothing too: no message is empty.
func TestFullToTheOctet(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	c.message("x@remote.example", "bob@example.com", shortMessage)
	f.quotas(fmt.Sprintf("bob=%d", len(f.oneMail("bob"))))
	for _, size := range []string{"", " SIZE=0", " SIZE=1"} {
		c.ask("MAIL FROM:<x@remote.example>"+size, "250 ")
		c.ask("RCPT TO:<bob@example.com>", "452 4.2.2")
		c.ask("RSET", "250 ")
	}
	f.quotas(fmt.Sprintf("bob=%d", len(f.oneMail("bob"))+1))
	c.ask("MAIL FROM:<x@remote.example>", "250 ")
	c.ask("RCPT TO:<bob@example.com>", "250 ")
}

// A forced stop gives back what sessions held.
func TestCloseGivesRoomBack(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		f.quotas("bob=1000")
		c := p.roomy(f, "192.0.2.1")
		c.ask("MAIL FROM:<x@remote.example> SIZE=600", "250 ")
		c.ask("RCPT TO:<bob@example.com>", "250 ")
		f.wantRoom("bob", 400)
		f.must(f.srv.Close())
		synctest.Wait()
		f.wantRoom("bob", 1000)
	})
}

// Of many who want the one place at the same time, one has it at RCPT; its mail is stored, and nobody sent a body in vain.
func TestOnePlaceManySenders(t *testing.T) {
	f := newFixture(t, MX)
	f.quotas("bob=1000")
	f.serve()
	const senders = 6
	var clients [senders]*client
	for i := range clients {
		clients[i] = f.greeted()
	}
	for round := range 5 {
		var stored, refused atomic.Int64
		var named, done sync.WaitGroup
		named.Add(senders)
		for _, c := range clients {
			done.Go(func() {
				c.send("MAIL FROM:<x@remote.example> SIZE=600\r\nRCPT TO:<bob@example.com>\r\n")
				_, _ = c.r.ReadLine()
				line, err := c.r.ReadLine()
				named.Done()
				named.Wait() // until everybody has asked
				switch {
				case err == nil && strings.HasPrefix(line, "250 "):
					c.send("DATA\r\n")
					_, _ = c.r.ReadLine()
					c.send(bodyOf(600) + ".\r\n")
					if line, _ = c.r.ReadLine(); strings.HasPrefix(line, "250 ") {
						stored.Add(1)
						return
					}
					t.Errorf("round %d: the one with the place got %q", round, line)
				case err == nil && strings.HasPrefix(line, "452 4.2.2 "):
					refused.Add(1)
					c.send("RSET\r\n")
					_, _ = c.r.ReadLine()
				default:
					t.Errorf("round %d: got %q, %v", round, line, err)
				}
			})
		}
		done.Wait()
		if stored.Load() != 1 || refused.Load() != senders-1 {
			t.Fatalf("round %d: %d stored and %d refused of %d", round, stored.Load(), refused.Load(), senders)
		}
		f.empty("bob")
	}
}

// empty deletes what is in a maildrop.
func (f *fixture) empty(name string) {
	f.t.Helper()
	drop, err := f.store.OpenMaildrop(context.Background(), f.ids[name])
	f.must(err)
	messages, err := drop.Messages(context.Background())
	f.must(err)
	var ids []store.CopyID
	for m := range messages {
		ids = append(ids, m.ID)
	}
	f.must(errors.Join(drop.Expunge(context.Background(), ids, nil), drop.Close()))
}

// forwarding is a store where bob's address leads outside too.
type forwarding struct{ Store }

func (b forwarding) Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error) {
	route, err := b.Store.Resolve(ctx, addr)
	if addr == address("bob@example.com") {
		route.Remote = append(route.Remote, address("bob@remote.example"))
	}
	return route, err
}

// A recipient that is refused after its room was reserved, here for want of a budget, holds none.
func TestRefusedRecipientHoldsNoRoom(t *testing.T) {
	f := newFixture(t, Submission, func(o *Options) { o.Store = forwarding{o.Store} })
	f.quotas("bob=1000")
	f.settings(func(s *store.Settings) { s.DailyRecipients = 1 })
	f.serve()
	c := f.loggedIn("alice")
	c.ask("MAIL FROM:<alice@example.com> SIZE=600", "250 ")
	c.ask("RCPT TO:<x@remote.example>", "250 ")
	c.ask("RCPT TO:<bob@example.com>", "450 4.7.1")
	f.wantRoom("bob", 1000)
	c.ask("RSET", "250 ")
	c.ask("MAIL FROM:<alice@example.com> SIZE=600", "250 ")
	c.ask("RCPT TO:<bob@example.com>", "250 ")
	f.wantRoom("bob", 400)
	c.ask("RSET", "250 ")
	f.wantRoom("bob", 1000)
}

// wantRoom checks how many octets can still be reserved.
func (f *fixture) wantRoom(name string, octets int64) {
	f.t.Helper()
	for n, want := range map[int64]error{octets: nil, octets + 1: store.ErrMaildropFull} {
		id, err := f.store.Reserve(context.Background(), f.ids[name], n)
		if f.store.Unreserve(id); !errors.Is(err, want) {
			f.t.Errorf("%d octets for %s: error %v, want %v", n, name, err, want)
		}
	}
}

// panicky is a store whose commits panic before they get anywhere.
type panicky struct{ Store }

type panickyDraft struct{ store.Draft }

func (p panicky) NewDraft(ctx context.Context) (store.Draft, error) {
	d, err := p.Store.NewDraft(ctx)
	return panickyDraft{d}, err
}

func (panickyDraft) Commit(context.Context, store.Envelope) (store.Receipt, error) { panic("planted") }

// A commit that panics leaves no room held either.
func TestPanicInCommitHoldsNoRoom(t *testing.T) {
	f := newFixture(t, MX, func(o *Options) { o.Store = panicky{o.Store} })
	f.quotas("bob=1000")
	f.serve()
	c := f.greeted()
	c.ask("MAIL FROM:<x@remote.example> SIZE=600", "250 ")
	c.ask("RCPT TO:<bob@example.com>", "250 ")
	f.wantRoom("bob", 400)
	c.ask("DATA", "354 ")
	c.send(shortMessage + ".\r\n")
	c.expect("421 4.3.0")
	c.closed()
	f.wantRoom("bob", 1000)
}

// TestNoBounceForRoom: a stranger who declares less than he sends is refused as a whole, where one of the addresses has no room: nothing is
// stored, and whoever stands in his reverse-path gets no bounce. What he declares is answered for each address.
func TestNoBounceForRoom(t *testing.T) {
	for _, of := range []string{"domain", "bob"} {
		f := newFixture(t, MX)
		f.quotas(of + "=1000")
		f.serve()
		c := f.greeted()
		for _, size := range []int{600, 1200} {
			c.ask("MAIL FROM:<x@remote.example>", "250 ") // nothing declared
			c.ask("RCPT TO:<bob@example.com>", "250 ")
			c.ask("RCPT TO:<alice@example.com>", "250 ")
			c.ask("RCPT TO:<team@example.com>", "250 ") // both of them
			c.ask("DATA", "354 ")
			c.send(bodyOf(size) + ".\r\n")
			if of == "bob" && size == 600 {
				c.expect("250 2.") // there is room
				continue
			}
			c.expect(map[string]string{"domain": "452 4.3.1", "bob": "452 4.2.2"}[of])
		}
		if b, a, want := len(f.mail("bob")), len(f.mail("alice")), map[string]int{"domain": 0, "bob": 1}[of]; b != want || a != want {
			t.Errorf("%s: bob has %d and alice %d, want %d", of, b, a, want)
		}
		if jobs := f.jobs(); len(jobs) != 0 {
			t.Errorf("%s: jobs %+v, want no report to a stranger", of, jobs)
		}
		f.quotas("bob=10000 domain=0")
		held := int64(0)
		for _, m := range f.mail("bob") {
			held += int64(len(m))
		}
		f.wantRoom("bob", 10000-held) // nothing stays reserved
	}
}

// TestDomainIsFull: what is declared is refused at RCPT.
func TestDomainIsFull(t *testing.T) {
	f := newFixture(t, MX)
	f.quotas("domain=1000")
	f.serve()
	c := f.greeted()
	c.message("x@remote.example", "bob@example.com", bodyOf(600))
	c.ask("MAIL FROM:<x@remote.example> SIZE=500", "250 ")
	c.ask("RCPT TO:<alice@example.com>", "452 4.3.1 The mailboxes of this domain are full, try again later")
}
