package webmanager

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCeremonies: a challenge is made of a ticket, for its time, its purpose and its process; whoever changes the ticket has another, or none.
func TestCeremonies(t *testing.T) {
	c := newCeremonies()
	ticket := c.begin(noon)
	first, ok := c.challenge(noon, ticket, "a")
	if !ok || len(first) != 32 || ticket == c.begin(noon) {
		t.Fatalf("%x, %t", first, ok)
	}
	again, ok := c.challenge(noon.Add(CeremonyTime-time.Second), ticket, "a")
	if !ok || !bytes.Equal(again, first) {
		t.Errorf("at the last moment: %x, %t", again, ok)
	}
	if other, _ := c.challenge(noon, ticket, "b"); bytes.Equal(other, first) {
		t.Error("two purposes have one challenge")
	}
	if other, _ := newCeremonies().challenge(noon, ticket, "a"); bytes.Equal(other, first) {
		t.Error("another process has the same challenge")
	}
	raw, err := base64.RawURLEncoding.DecodeString(ticket)
	if err != nil {
		t.Fatal(err)
	}
	later := bytes.Clone(raw)
	binary.BigEndian.PutUint64(later, uint64(noon.Add(CeremonyTime).Unix()))
	if other, ok := c.challenge(noon.Add(CeremonyTime), base64.RawURLEncoding.EncodeToString(later), "a"); !ok || bytes.Equal(other, first) {
		t.Errorf("a ticket that was made younger: %x, %t", other, ok)
	}
	for name, bad := range map[string]string{
		"nothing": "", "no base 64": "!" + ticket[1:], "shorter": ticket[:len(ticket)-2], "longer": ticket + "AA", "huge": strings.Repeat("A", 1<<16),
		"of the end of time": "____" + ticket[4:], "padded": ticket + "=",
	} {
		if _, ok := c.challenge(noon, bad, "a"); ok {
			t.Errorf("%s is a ticket", name)
		}
	}
	for _, at := range []time.Duration{CeremonyTime, 24 * time.Hour, -time.Second} {
		if _, ok := c.challenge(noon.Add(at), ticket, "a"); ok {
			t.Errorf("good after %s", at)
		}
	}
}

// TestSpent: a ticket is good once, and those that were used are remembered as long as they would be good, up to a bound.
func TestSpent(t *testing.T) {
	c := newCeremonies()
	for i := range maxSpent - 1 {
		if !c.spend(noon, fmt.Sprint(i)) {
			t.Fatalf("ticket %d was used before", i)
		}
	}
	if !c.spend(noon.Add(time.Minute), "last") || c.spend(noon.Add(time.Minute), "last") || c.spend(noon.Add(time.Minute), "one more") {
		t.Error("at the bound")
	}
	if c.spend(noon.Add(CeremonyTime-time.Second), "too early") {
		t.Error("one was forgotten too early")
	}
	if !c.spend(noon.Add(CeremonyTime), "room again") || c.spend(noon.Add(CeremonyTime), "last") || len(c.spent) != 2 {
		t.Errorf("%d are remembered", len(c.spent))
	}
}
