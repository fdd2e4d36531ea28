//go:build torture

package main

import (
	"errors"
	"fmt"
	"testing"

	"latchkey/webmanager"
)

// tenantName is a mailbox that is removed and added again all the time. Nobody writes to it but its tenant.
const tenantName = "dora"

// tenant moves in and out: what a mailbox held goes with it, and nothing of it is in the next one of its name.
type tenant struct {
	v *victim
	l *ledger
	// touched is set if something was done to the mailbox in this round.
	touched bool
	// home says that the mailbox is there; removing and adding that it is not known, for want of an answer.
	home, removing, adding bool
}

// begin lets the tenant move beside other traffic.
func (n *tenant) begin(f *traffic) {
	n.touched = true
	f.work.Go(func() {
		var err error
		for i := 0; err == nil && !f.stopped(); i++ {
			err = n.moves(fmt.Sprintf("d%s-%d", f.name, i))
		}
		f.ended(err)
	})
}

// moves gets some mail, moves out, in again, and gets some more.
func (n *tenant) moves(name string) error {
	if err := n.gets(name+"-before", 2); err != nil {
		return err
	}
	n.removing = true
	if err := n.asks("DELETE", "/v1/accounts/"+tenantName, nil); err != nil {
		return err
	}
	n.removing, n.home = false, false
	n.l.evict(tenantName)
	n.adding = true
	if err := n.asks("POST", "/v1/accounts", webmanager.NewAccount{Name: tenantName, Password: victimPassword}); err != nil {
		return err
	}
	n.adding, n.home = false, true
	return n.gets(name+"-after", 1)
}

func (n *tenant) gets(name string, count int) error {
	c, err := n.v.dialMail("mx")
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }() // all is said, or the server is dead
	for i := range count {
		if err := c.send(n.l, fmt.Sprintf("%s-%d", name, i), 2000, tenantName); err != nil {
			return err
		}
	}
	return nil
}

// asks makes a request that is not refused.
func (n *tenant) asks(method, path string, in any) error {
	err := n.v.control(method, path, in, nil)
	if refusal := (*webmanager.Error)(nil); errors.As(err, &refusal) {
		n.l.problem("%s %s: %v", method, path, err)
	}
	return err
}

// settle looks whether the mailbox is there, after a start.
func (n *tenant) settle(t testing.TB) {
	t.Helper()
	if !n.touched {
		return
	}
	err := n.v.control("GET", "/v1/accounts/"+tenantName, nil, nil)
	refusal := (*webmanager.Error)(nil)
	there := err == nil
	unknown := errors.As(err, &refusal) && refusal.Code == webmanager.CodeNotFound
	switch {
	case !there && !unknown:
		t.Fatalf("%s: %v", n.v.where, err)
	case there && !n.home && !n.adding:
		n.l.problem("the mailbox %s is there although its removal was answered", tenantName)
	case !there && n.home && !n.removing:
		n.l.problem("the mailbox %s is gone although it was added, or never removed", tenantName)
	case !there && n.removing:
		n.l.evict(tenantName)
	}
	n.home, n.removing, n.adding = there, false, false
}

// moveIn ends a round with the mailbox there.
func (n *tenant) moveIn(t testing.TB) {
	t.Helper()
	if n.touched = false; n.home {
		return
	}
	if err := n.asks("POST", "/v1/accounts", webmanager.NewAccount{Name: tenantName, Password: victimPassword}); err != nil {
		t.Fatalf("%s: %v", n.v.where, err)
	}
	n.home = true
}
