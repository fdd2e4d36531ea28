//go:build torture

package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// traffic is mail that comes and goes all at once: senders at the MX door, and owners of mailboxes who fetch, delete, or break off.
type traffic struct {
	v    *victim
	l    *ledger
	name string
	seed uint64
	// excused are refusals that are no problem here; nil is none. Who was refused tries again with another message.
	excused func(refusal string) bool

	over chan struct{} // closed: no new message, no new session
	work sync.WaitGroup
	// refused counts what senders were refused, kept the QUITs with deletes that were.
	refused, kept atomic.Int64
	// fetched counts the sessions that came to their end, deleted the QUITs with deletes among them.
	fetched, deleted atomic.Int64
}

// refusedPause is how long a client that was refused waits at most.
const refusedPause = 20 * time.Millisecond

// begin starts senders and owners, who go on until stop or until the server is gone.
func (f *traffic) begin(senders, owners int) {
	f.over = make(chan struct{})
	for i := range senders {
		f.work.Go(func() { f.until(uint64(i), f.sends) })
	}
	for i := range owners {
		f.work.Go(func() { f.until(1000+uint64(i), f.owns) })
	}
}

// run lets the traffic go on up to the moment that chance chooses: any, or the very moment of an answer.
func (f *traffic) run(t testing.TB, dice *rand.Rand) {
	t.Helper()
	f.l.await(t, f.l.after(roundLeast))
	pause(dice, roundTime)
	if dice.IntN(2) == 0 {
		f.l.await(t, f.l.after(1))
	}
}

// wait waits until all have ended because the server is gone.
func (f *traffic) wait() { f.work.Wait() }

// lurk adds readers who never wait for a change of theirs.
func (f *traffic) lurk(readers int) {
	for i := range readers {
		f.work.Go(func() { f.until(2000+uint64(i), f.lurks) })
	}
}

// stop lets all come to the end of what they do.
func (f *traffic) stop() {
	close(f.over)
	f.work.Wait()
}

func (f *traffic) stopped() bool {
	select {
	case <-f.over:
		return true
	default:
		return false
	}
}

// until repeats connections until the end. An error that is no refusal is the server's end.
func (f *traffic) until(stream uint64, connection func(dice *rand.Rand, name string) error) {
	dice := rand.New(rand.NewPCG(f.seed, stream))
	for i := 0; !f.stopped(); i++ {
		err := connection(dice, fmt.Sprintf("%s-%d-%d", f.name, stream, i))
		if !f.ended(err) {
			return
		}
		if err != nil {
			pause(dice, refusedPause)
		}
	}
}

// ended tells what ended a client, unless it is the server's end or excused. It reports whether the client may go on.
func (f *traffic) ended(err error) bool {
	switch wrong := (*errWrong)(nil); {
	case err == nil:
		return true
	case errors.As(err, &wrong), isTimeout(err):
		f.l.problem("%v", err)
		return false
	case !isRefused(err):
		return false
	case f.excused == nil || !f.excused(err.Error()):
		f.l.problem("refused: %v", err)
		return false
	}
	return true
}

// sends is one connection of a sender: some messages, one of them perhaps broken off.
func (f *traffic) sends(dice *rand.Rand, name string) error {
	c, err := f.v.dialMail("mx")
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }() // all is said, or broken off
	for i := range 1 + dice.IntN(12) {
		if f.stopped() {
			return nil
		}
		token, size, to := fmt.Sprintf("%s-%d", name, i), letterSize(dice), choose(dice)
		if dice.IntN(40) == 0 {
			return f.breaksOff(c, token, size, to)
		}
		err := c.send(f.l, token, size, to...)
		if isRefused(err) {
			f.refused.Add(1)
		}
		if err != nil {
			return err
		}
	}
	return c.ask("QUIT\r\n", "221")
}

// choose picks one to three addresses.
func choose(dice *rand.Rand) []string {
	all := []string{"anna", "bert", "carl", "desk", "pair", "team"}
	n := 1
	if dice.IntN(4) == 0 {
		n = 2 + dice.IntN(2)
	}
	dice.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:n]
}

// breaksOff sends half a message and goes: it must never be seen.
func (f *traffic) breaksOff(c *mailClient, token string, size int, to []string) error {
	rcpts, accounts := expand(to)
	if err := c.envelope("torture@other.example", rcpts...); err != nil {
		return err
	}
	text := stuffed(appendLetter(nil, token, size, ""))
	f.l.forbid(token, accounts)
	_, err := c.conn.Write(text[:len(text)/2])
	return err
}

// Of the owners' habits.
const (
	// fullDrop is how many messages make an owner tidy up, keepers how many of them stay nevertheless: what stays among what goes is
	// what makes an engine move it.
	fullDrop, keepers = 50, 16
)

// isKeeper reports whether a message is one that owners like to keep.
func isKeeper(token string) bool {
	h := fnv.New32a()
	_, _ = io.WriteString(h, token) // a hash takes everything
	return h.Sum32()%8 == 0
}

// looks logs in, lists, fetches what is new and some of the old, and compares all that with what is certain. The caller closes the
// connection.
func (f *traffic) looks(dice *rand.Rand, account string) (*popClient, []entry, error) {
	began := f.l.now()
	c, err := f.v.dialPOP(account)
	if err != nil {
		return nil, nil, err
	}
	list, err := c.list()
	var numbers []int
	for i := range list {
		list[i].token = f.l.token(account, list[i].uid)
		if list[i].token == "" || dice.IntN(8) == 0 {
			numbers = append(numbers, i+1)
		}
	}
	if err == nil {
		err = c.retrieve(numbers, func(n int, token string) { list[n-1].token = token })
	}
	if err != nil {
		return nil, nil, errors.Join(err, c.conn.Close())
	}
	f.l.listed(account, began, list)
	return c, list, nil
}

// lurks looks and goes: what it saw must be there for good.
func (f *traffic) lurks(dice *rand.Rand, _ string) error {
	c, _, err := f.looks(dice, mailboxes()[dice.IntN(len(mailboxes()))])
	if err != nil {
		return err
	}
	return c.conn.Close()
}

// owns is one session of an owner: looks, deletes, and says QUIT or not.
func (f *traffic) owns(dice *rand.Rand, _ string) error {
	account := mailboxes()[dice.IntN(len(mailboxes()))]
	c, list, err := f.looks(dice, account)
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }() // after QUIT, or broken off
	numbers, tokens := unwanted(dice, list)
	if dice.IntN(6) == 0 {
		return f.leaves(c, dice, numbers)
	}
	b := f.l.claim(account, tokens)
	numbers = b.numbers(list)
	if err := c.delete(numbers); err != nil {
		f.l.settle(b, false)
		return err
	}
	_, err = c.ask("QUIT")
	switch {
	case err == nil:
		f.l.settle(b, true)
		f.fetched.Add(1)
		if len(numbers) > 0 {
			f.deleted.Add(1)
		}
	case isRefused(err):
		f.kept.Add(1)
		if !f.l.uncertain.Load() {
			f.l.settle(b, false)
		}
	}
	return err
}

// leaves goes without QUIT, perhaps in the middle of a message: nothing is deleted.
func (f *traffic) leaves(c *popClient, dice *rand.Rand, numbers []int) error {
	if err := c.delete(numbers); err != nil {
		return err
	}
	if dice.IntN(2) == 0 {
		if _, err := c.ask("RSET"); err != nil {
			return err
		}
		_, err := c.ask("QUIT")
		return err
	}
	_, err := io.WriteString(c.conn, "RETR 1\r\n")
	return err
}

// unwanted picks what an owner deletes: more of it the more there is.
func unwanted(dice *rand.Rand, list []entry) (numbers []int, tokens []string) {
	share, kept := 4, 0
	if len(list) > fullDrop {
		share = 2
	}
	for i, e := range list {
		keep := isKeeper(e.token)
		if keep {
			kept++
		}
		if keep && (kept <= keepers || dice.IntN(8) > 0) || dice.IntN(share) > 0 {
			continue
		}
		numbers, tokens = append(numbers, i+1), append(tokens, e.token)
	}
	return numbers, tokens
}

// numbers are the places of a batch's messages in a listing.
func (b *deletion) numbers(list []entry) (numbers []int) {
	mine := map[string]bool{}
	for _, token := range b.tokens {
		mine[token] = true
	}
	for i, e := range list {
		if mine[e.token] {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}
