package boltstore

import (
	"fmt"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// counting is a cursor that counts its steps.
type counting struct {
	stepper
	seeks, nexts int
}

func (c *counting) Seek(from []byte) (key, value []byte) {
	c.seeks++
	return c.stepper.Seek(from)
}

func (c *counting) Next() (key, value []byte) {
	c.nexts++
	return c.stepper.Next()
}

// TestDestinationsCost: a hundred thousand jobs to a thousand domains cost a seek for each domain, and a step for each leased job.
func TestDestinationsCost(t *testing.T) {
	s, _ := fresh(t, Options{})
	const domains, each, leased = 1000, 100, 3
	recipients := make([]mailaddr.Address, domains)
	for i := range recipients {
		recipients[i] = mustAddress(fmt.Sprintf("r@d%04d.example", i))
	}
	due := time.Unix(1_000_000_000, 0)
	err := s.write(t.Context(), func(tx *txn) error {
		for domain := range domains { // in the order of keys: bbolt moves everything behind a key that is put in between
			for id := domain; id < domains*each; id += domains {
				j := store.Job{ID: store.JobID(id + 1), Recipient: recipients[domain], NextAttempt: due.Add(time.Duration(id))}
				tx.put(bDue, dueKey(&j), nil)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.read(t.Context(), func(v *view) error {
		for limit, seeks := range map[int]int{0: 0, 1: 1, 10: 10, domains - 1: domains - 1, domains: domains, domains + 1: domains + 1} {
			c := &counting{stepper: v.bucket(bDue).Cursor()}
			list := destinations(c, store.Destination{}, limit, func(store.JobID) bool { return false })
			if len(list) != min(limit, domains) || c.seeks != seeks || c.nexts != 0 {
				t.Errorf("%d of %d destinations took %d seeks and %d steps, want %d and none", len(list), limit, c.seeks, c.nexts, seeks)
			}
		}
		c := &counting{stepper: v.bucket(bDue).Cursor()}
		list := destinations(c, store.Destination{}, domains, func(id store.JobID) bool { return id <= leased*domains })
		if len(list) != domains || c.seeks != domains || c.nexts != leased*domains {
			t.Errorf("%d destinations took %d seeks and %d steps, want %d and %d", len(list), c.seeks, c.nexts, domains, leased*domains)
		}
		for i, d := range list {
			want := store.Destination{Domain: recipients[i].Domain(), Due: due.Add(time.Duration(leased*domains + i))}
			if d.Domain != want.Domain || !d.Due.Equal(want.Due) {
				t.Fatalf("destination %d is %+v, want %+v", i, d, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDueKeys: keys sort by destination, moment and id, and read back as they were.
func TestDueKeys(t *testing.T) {
	var last []byte
	for i, domain := range []string{"a.example", "a.example.net", "b.example", "[192.0.2.1]"} {
		submitter := store.AccountID(i / 3) // what begins with [ sorts before letters, but for another submitter
		for _, due := range []time.Time{time.Unix(-5, 7), time.Unix(0, 0), time.Unix(1_000_000_000, 1), time.Unix(1_000_000_000, 2)} {
			for _, id := range []store.JobID{1, 255, 256} {
				j := store.Job{ID: id, Submitter: submitter, Recipient: mustAddress("r@" + domain), NextAttempt: due}
				key := dueKey(&j)
				at, read := dueOfKey(key)
				if string(key) <= string(last) || !at.Equal(due) || read != id || destinationOfKey(key) != (store.Destination{Submitter: submitter, Domain: domain}) {
					t.Errorf("key %q of %s, %s, %d", key, domain, due, id)
				}
				if string(key) >= string(behindDue(submitter, domain)) || string(duePrefix(submitter, domain)) != string(key[:dueHead+len(domain)+1]) {
					t.Errorf("key %q is not between %q and %q", key, duePrefix(submitter, domain), behindDue(submitter, domain))
				}
				last = key
			}
		}
	}
}
