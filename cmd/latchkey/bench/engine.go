//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"latchkey/internal/gcpace"
	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/store/boltstore"
)

const (
	engineTitle  = "engine alone, 4,096 octets, %d at a time"
	engineRun    = 3 * time.Second
	engineWarmUp = 8 * time.Second
	// engineFillers commit before the measuring, whoever does later.
	engineFillers = 64
	// engineRest is between that and the measuring; the bare log takes as long a rest.
	engineRest = 1500 * time.Millisecond
	// There must be so many octets of recycled segments, within so long.
	spareLeast, spareTime = 64 << 20, 20 * time.Second
	// engineMost bounds what one run of the engine may write, in octets.
	engineMost = 2 << 30
)

// layout is one of the bare log.
type layout struct{ flag, title string }

// layouts are the log on segments that were filled before, and on a file that grows.
func layouts() []layout {
	return []layout{{"walpre", "bare log, recycled"}, {"wal", "bare log, growing"}}
}

// measureEngine is part c: commits through the store's interface, in a process of its own as the bare layouts are.
func (r *run) measureEngine(ctx context.Context) error {
	limits, err := r.build(ctx, "limits")
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	seconds := max(engineRun.Seconds()*min(r.scale, 1), 0.5)
	for range r.rounds {
		for _, writers := range []int{1, 16, 64} {
			title := fmt.Sprintf(engineTitle, writers)
			args := []string{"-writers", strconv.Itoa(writers), "-sizes", "4096", "-secs", fmt.Sprint(seconds), "-layouts"}
			for _, l := range layouts() {
				env := []string{"LIMITS_DIR=" + filepath.Join(r.root, "limits")}
				out, err := command(ctx, env, limits, slices.Concat([]string{"group"}, args, []string{l.flag})...)
				if err != nil {
					return err
				}
				if err := r.engineFigure(title, l.title, out); err != nil {
					return err
				}
				r.sheet.want(row{part: 'c', measure: title, unit: rateUnit, against: l.title, want: atLeast(0.7)})
			}
			dir := filepath.Join(r.root, "engine")
			out, err := command(ctx, nil, program, engineHelper, dir, strconv.Itoa(writers), fmt.Sprint(seconds))
			if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
				return err
			}
			if err := r.engineFigure(title, us, out); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) engineFigure(title, name string, out []byte) error {
	var got result
	if err := json.Unmarshal([]byte(lastLine(out)), &got); err != nil || got.MsgsS <= 0 {
		return fmt.Errorf("%s: %q: %w", name, lastLine(out), errors.Join(err, errors.New("no figure")))
	}
	r.figure(title, name, got.MsgsS, rateUnit)
	return nil
}

// engineMain is the process that part c measures: a new store in a directory, so many writers, so many seconds.
func engineMain(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("engine DIRECTORY WRITERS SECONDS")
	}
	writers, err1 := strconv.Atoi(args[1])
	seconds, err2 := strconv.ParseFloat(args[2], 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := boltstore.Init(ctx, args[0], store.DefaultSettings(domain), boltstore.Options{}); err != nil {
		return err
	}
	defer gcpace.Start()() // as the server has it
	st, err := boltstore.Open(ctx, args[0], boltstore.Options{})
	if err != nil {
		return err
	}
	rate, err := commitRate(ctx, st, writers, time.Duration(seconds*float64(time.Second)))
	if err := errors.Join(err, st.Close()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result{MsgsS: rate})
}

// commitRate is how many messages a second so many writers commit into segments that are recycled, as those of a server are whose users
// fetch and delete: before, there was as much traffic as makes the segments as large as they become, and all of it was deleted.
func commitRate(ctx context.Context, st store.Store, writers int, d time.Duration) (float64, error) {
	c, err := newCommitter(st)
	if err != nil {
		return 0, err
	}
	boxes, err := c.addMailboxes(ctx, mailboxNames("user", users))
	if err != nil {
		return 0, err
	}
	recycled := int64(2 * engineMost)
	for range 2 { // the second time, the segment that is written has been used before
		if _, _, err := c.commitFor(ctx, boxes, engineFillers, engineWarmUp, recycled/2); err != nil {
			return 0, err
		}
		if err := expungeAll(ctx, st, boxes); err != nil {
			return 0, err
		}
		if recycled, err = awaitSpares(ctx, st); err != nil {
			return 0, err
		}
	}
	syscall.Sync() // the index follows, and the device frees what files are removed
	if err := pause(ctx, engineRest); err != nil {
		return 0, err
	}
	n, took, err := c.commitFor(ctx, boxes, writers, d, recycled)
	return float64(n) / took.Seconds(), err
}

// expungeAll deletes everything.
func expungeAll(ctx context.Context, st store.Store, boxes []mailbox) error {
	for _, box := range boxes {
		m, err := st.OpenMaildrop(ctx, box.id)
		if err != nil {
			return err
		}
		messages, err := m.Messages(ctx)
		var ids []store.CopyID
		for message := range messages {
			ids = append(ids, message.ID)
		}
		if err := errors.Join(err, m.Expunge(ctx, ids, nil), m.Close()); err != nil {
			return err
		}
	}
	return nil
}

// awaitSpares returns when the space of what was deleted waits to be used again: the octets of the spare segments.
func awaitSpares(ctx context.Context, st store.Store) (int64, error) {
	metered, ok := st.(store.Metered)
	if !ok {
		return 0, errors.New("the engine has no figures")
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	before := int64(0)
	for begin := time.Now(); ; {
		m := metered.Metrics()
		if m.Segments == 1 && m.SpareOctets >= spareLeast && m.SpareOctets == before {
			return m.SpareOctets, nil // and no more come
		}
		before = m.SpareOctets
		if time.Since(begin) > spareTime {
			return 0, fmt.Errorf("only %d octets of spare segments after %s", m.SpareOctets, spareTime)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// mailbox is an account that mail is committed to without SMTP.
type mailbox struct {
	id      store.AccountID
	address mailaddr.Address
	prefix  []byte
}

// committer commits mail as SMTP's session does, with the envelope that it would have.
type committer struct {
	st     store.Store
	from   mailaddr.Address
	origin store.Origin
}

func newCommitter(st store.Store) (*committer, error) {
	from, err := mailaddr.Parse("sender@out.example")
	origin := store.Origin{Door: "mx", Remote: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Hello: "out.example", With: "ESMTP"}
	return &committer{st: st, from: from, origin: origin}, err
}

func (c *committer) mailbox(a store.Account) (mailbox, error) {
	address, err := mailaddr.Parse(a.Name + "@" + domain)
	return mailbox{id: a.ID, address: address, prefix: fmt.Appendf(nil, "Return-Path: %s\r\nDelivered-To: %s\r\n", c.from.Path(), address)}, err
}

// addMailboxes adds accounts that nobody logs in to.
func (c *committer) addMailboxes(ctx context.Context, names []string) ([]mailbox, error) {
	boxes := make([]mailbox, len(names))
	for i, name := range names {
		a, err := c.st.AddAccount(ctx, store.Account{Name: name, Created: time.Now()})
		if err != nil {
			return nil, err
		}
		if boxes[i], err = c.mailbox(a); err != nil {
			return nil, err
		}
	}
	return boxes, nil
}

// commit stores one message for one mailbox.
func (c *committer) commit(ctx context.Context, to mailbox, seq int, body []byte, headerLen int64) error {
	draft, err := c.st.NewDraft(ctx)
	if err != nil {
		return err
	}
	if _, err := draft.Write(body); err != nil {
		return errors.Join(err, draft.Abort())
	}
	_, err = draft.Commit(ctx, store.Envelope{
		ReversePath: c.from, Received: time.Now(), HeaderLen: headerLen, HeaderID: "<" + strconv.Itoa(seq) + "@out.example>",
		Origin: c.origin, Recipients: []store.Recipient{{Address: to.address, Account: to.id, Prefix: to.prefix}},
	})
	return err
}

// commitFor commits messages of 4,096 octets for a time, but not more than most octets of them, each durable before the next of its writer,
// and returns their number.
func (c *committer) commitFor(ctx context.Context, boxes []mailbox, writers int, d time.Duration, most int64) (int, time.Duration, error) {
	body := make([]byte, 4096)
	headerLen := copy(body, "Subject: bench\r\n\r\n")
	for i := headerLen; i < len(body); i++ {
		body[i] = 'a' + byte(i*7%26)
	}
	begin := time.Now()
	var seq, done atomic.Int64
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for errs[w] == nil && time.Since(begin) < d && done.Load()*int64(len(body)) < most {
				n := int(seq.Add(1))
				if errs[w] = c.commit(ctx, boxes[n%len(boxes)], n, body, int64(headerLen)); errs[w] == nil {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return int(done.Load()), time.Since(begin), errors.Join(errs...)
}
