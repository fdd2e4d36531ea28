//go:build torture

package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// TestTortureKill kills a server that takes mail in, gives it out, and sends it on, over and over on the same data: at any moment, or at one
// of its system calls. Nothing that was said to anybody is forgotten, and nothing happens twice.
func TestTortureKill(t *testing.T) {
	need(t, "strace")
	seed := newSeed(t)
	v, l := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger(append(mailboxes(), tenantName)...)
	v.populate("anna", "carl", submitter, tenantName)
	v.tenant = &tenant{v: v, l: l, home: true}
	b := newOutbox(v, l)
	v.start()
	trapped, began := 0, time.Now()
	for round := range rounds(300, 15) {
		v.where = fmt.Sprintf("round %d", round)
		dice := rand.New(rand.NewPCG(seed, uint64(round)))
		f := &traffic{v: v, l: l, name: fmt.Sprintf("k%d", round), seed: dice.Uint64()}
		f.begin(roundSenders, roundOwners)
		b.begin(f, dice)
		if dice.IntN(4) == 0 {
			v.tenant.begin(f)
		}
		f.run(t, dice)
		v.healthy()
		if dice.IntN(5) == 0 {
			tr := v.trap(dice, "SIGKILL")
			if awaitTrap(func() bool { return v.gone() }) {
				trapped++
			}
			v.kill()
			tr.detach()
		} else {
			v.kill()
		}
		f.wait()
		b.killed()
		v.start()
		v.tenant.settle(t)
		v.judge(l)
		b.reconcile(t)
		if round%4 == 0 {
			v.sound()
		}
		v.healthy()
		if v.told(l) {
			return
		}
		if round == 0 || round%50 == 49 {
			t.Logf("round %d, %s: %d messages acknowledged, %d there", round, time.Since(began).Round(time.Second), l.acked.Load(), l.size())
		}
		b.tidy(t)
		v.tenant.moveIn(t)
	}
	v.where = "at the end"
	b.finish(t)
	v.told(l)
	t.Logf("%d messages acknowledged, %d recipients abroad with %d copies, %d kills at a system call",
		l.acked.Load(), len(b.mails), len(b.sink.all()), trapped)
	v.stop()
	v.sound()
}

// gone reports whether the process has ended.
func (v *victim) gone() bool {
	select {
	case <-v.log.ended:
		return true
	default:
		return false
	}
}

// finish has everything sent that waits, and takes stock.
func (b *outbox) finish(t *testing.T) {
	t.Helper()
	for range 10 { // more often than any mail is put off
		if jobs, err := b.queue(); err != nil || len(jobs) == 0 {
			break
		}
		b.tidy(t)
		eventually(t, "attempts at what waits", func() bool {
			jobs, err := b.queue()
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range jobs {
				if !j.NextAttempt.After(time.Now()) {
					return false
				}
			}
			return true
		})
	}
	if jobs, err := b.queue(); err != nil || len(jobs) > 0 {
		t.Errorf("%d recipients still wait (%v)", len(jobs), err)
	}
	b.reconcile(t)
}
