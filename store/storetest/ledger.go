package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"latchkey/store"
)

// fate is what clients know of one thing that was asked for.
type fate int8

const (
	tried    fate = iota // asked for, and never answered
	acked                // answered with success, or seen
	leaving              // asked to be removed, without an answer
	departed             // its removal was acknowledged, or it was refused
)

// register is a value that one client sets: what it may be, by what that client knows.
type register[T comparable] struct{ may []T }

func (r *register[T]) ask(v T)                  { r.may = append(r.may, v) }
func (r *register[T]) told(v T)                 { r.may = []T{v} }
func (r *register[T]) can(v T) bool             { return slices.Contains(r.may, v) }
func (r *register[T]) known() (v T)             { return r.may[0] }
func newRegister[T comparable](v T) register[T] { return register[T]{may: []T{v}} }

// ledger is what the clients of one store know over all its lives: every promise that was made. Each attempt has a token of its own, by
// which it is known again after a power cut. No client hears anything after the power went.
type ledger struct {
	mu       sync.Mutex
	dead     func() bool
	accounts map[string]*accountFact // by token
	messages map[string]*messageFact // by token
	copies   map[copyKey]*copyFact
	jobs     map[string]*jobFact // by token, which is the recipient's local part
	grants   map[store.GrantID]*grantFact
	seen     map[string]*seenFact         // by account and program
	devices  map[string]*deviceFact       // by token, which is the name
	secrets  map[string]*register[string] // by name; "" is none
	audit    map[string]fate              // by object
	settings register[string]             // the help URL
	version  uint64                       // the settings', as last told
	ids      map[string]string            // whatever is given out once and for all -> whose it is
	networks int                          // given to grants; each has its own
}

type accountFact struct {
	token, name string
	id          store.AccountID
	fate        fate
	suspended   register[bool]
	sealed      register[string] // "" is nothing
	version     uint64           // as last told
	unsteady    bool             // its suspension or removal was ever asked for: commits may leave it out
}

type messageFact struct {
	token   string
	text    string
	id      store.MessageID // 0 until it is told or seen
	told    bool
	copies  []copyKey
	jobs    []string
	held    bool   // the jobs, from the beginning
	settles string // the token of the job whose failure it reports
}

type copyKey struct{ message, account string }

func (k copyKey) String() string { return k.message + " for " + k.account }

type copyFact struct {
	id      store.CopyID // 0 until it is told or seen
	fate    fate
	expunge bool // its expunge was acknowledged
	asked   bool // somebody told that he fetched it and left it there
	fetched bool // that was acknowledged, or seen
}

// seenFact is what is known of one client of one account that is noted again and again.
type seenFact struct {
	account     string
	least, most int64 // sessions
}

type jobFact struct {
	message     string
	fate        fate
	held        register[bool]
	least, most int  // attempts
	ended       bool // its end was acknowledged
}

type grantFact struct {
	account string
	revoked bool // acknowledged
	kept    bool // written down in good order, or seen
	perhaps bool // forgotten, perhaps: the process was killed
}

func newLedger() *ledger {
	return &ledger{
		dead: func() bool { return false }, accounts: make(map[string]*accountFact), messages: make(map[string]*messageFact),
		copies: make(map[copyKey]*copyFact), jobs: make(map[string]*jobFact), grants: make(map[store.GrantID]*grantFact), seen: make(map[string]*seenFact), devices: make(map[string]*deviceFact),
		secrets: make(map[string]*register[string]), audit: make(map[string]fate), settings: newRegister(""),
		ids: make(map[string]string),
	}
}

// ask notes what a client is about to ask for.
func (l *ledger) ask(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// hear notes an answer, unless the power has gone: then nobody heard it.
func (l *ledger) hear(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead() {
		f()
	}
}

// saw notes an id that is given out once and for all, and reports one that was another's.
func (l *ledger) saw(kind, id, of string) (err error) {
	l.hear(func() {
		key := kind + " " + id
		if before, ok := l.ids[key]; ok && before != of {
			err = fmt.Errorf("%s was of %q, and is now of %q", key, before, of)
			return
		}
		l.ids[key] = of
	})
	return err
}

func digits[T ~uint64](id T) string { return strconv.FormatUint(uint64(id), 10) }

// living returns the accounts that are there for all that is known.
func (l *ledger) living() (list []*accountFact) {
	for _, token := range slices.Sorted(maps.Keys(l.accounts)) {
		if a := l.accounts[token]; a.fate == acked {
			list = append(list, a)
		}
	}
	return list
}

// open notes a message that is about to be committed.
func (l *ledger) open(m *messageFact) {
	l.ask(func() {
		l.messages[m.token] = m
		for _, k := range m.copies {
			l.copies[k] = &copyFact{}
		}
		for _, j := range m.jobs {
			l.jobs[j] = &jobFact{message: m.token, held: newRegister(m.held)}
		}
		if j := l.jobs[m.settles]; j != nil {
			j.leave()
		}
	})
}

func (j *jobFact) leave() {
	if j.fate <= acked {
		j.fate = leaving
	}
}

func (j *jobFact) left() { j.fate, j.ended = departed, true }

// refused notes that a commit stored nothing.
func (l *ledger) refused(m *messageFact) {
	l.hear(func() {
		for _, k := range m.copies {
			l.copies[k].fate = departed
		}
		for _, j := range m.jobs {
			l.jobs[j].fate = departed
		}
	})
}

// accepted notes a receipt. What other clients saw of the message meanwhile counts for more.
func (l *ledger) accepted(m *messageFact, r store.Receipt) error {
	out := make(map[int]bool)
	for _, f := range r.Failed {
		out[f.Index] = true
	}
	var keys []copyKey // in the order of the copies
	for i, k := range m.copies {
		if !out[i] {
			keys = append(keys, k)
		}
	}
	if len(keys) != len(r.Copies) || len(r.Jobs) != len(m.jobs) {
		return fmt.Errorf("the receipt of %s has %d copies of %d, and %d jobs of %d", m.token, len(r.Copies), len(keys), len(r.Jobs), len(m.jobs))
	}
	l.hear(func() {
		m.id, m.told = r.Message, true
		for i, k := range m.copies {
			if out[i] {
				l.copies[k].fate = departed
			}
		}
		for i, k := range keys {
			f := l.copies[k]
			if f.id = r.Copies[i].ID; f.fate == tried {
				f.fate = acked
			}
		}
		for _, j := range m.jobs {
			if f := l.jobs[j]; f.fate == tried {
				f.fate = acked
			}
		}
		if j := l.jobs[m.settles]; j != nil {
			j.left()
		}
	})
	err := l.saw("message", digits(r.Message), m.token)
	for i, k := range keys {
		err = firstOf(err, l.saw("unique-id", r.Copies[i].UID, k.String()), l.saw("copy", digits(r.Copies[i].ID), k.String()))
	}
	for i, j := range m.jobs {
		err = firstOf(err, l.saw("job", digits(r.Jobs[i]), j))
	}
	return err
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// text is what a client sends: its token, and octets that are like no others.
func text(token string, size int) string {
	var b strings.Builder
	b.Grow(size + 100)
	b.WriteString("Subject: " + token + "\r\nMessage-ID: <" + token + "@elsewhere.example>\r\n\r\n")
	line := make([]byte, 0, 64)
	for n := 0; b.Len() < size; n++ {
		line = append(line[:0], token...)
		line = append(line, ' ')
		line = strconv.AppendInt(line, int64(n), 36)
		line = append(line, "\r\n"...)
		b.Write(line)
	}
	return b.String()
}

// tokenOf returns the token of a text, and of the account for which it is a copy ("" in a job).
func tokenOf(text string) (token, account string) {
	if rest, ok := strings.CutPrefix(text, deliveredTo); ok {
		account, text, _ = strings.Cut(rest, "\r\n")
	}
	token, _, _ = strings.Cut(strings.TrimPrefix(text, "Subject: "), "\r\n")
	return token, account
}

const deliveredTo = "Delivered-To: "

// sent reports what is wrong with a text that a client got: it must be one that was sent.
func (l *ledger) sent(got string) (copyKey, error) {
	token, account := tokenOf(got)
	k := copyKey{token, account}
	l.mu.Lock()
	m := l.messages[token]
	l.mu.Unlock()
	if m == nil {
		return k, fmt.Errorf("a message %.60q that nobody sent", got)
	}
	want := m.text
	if account != "" {
		want = deliveredTo + account + "\r\n" + want
	}
	if got != want {
		return k, fmt.Errorf("message %s has %d octets that are not the %d that were sent", k, len(got), len(want))
	}
	return k, nil
}
