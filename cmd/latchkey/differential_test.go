//go:build interop

package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The same command sequences to Latchkey and to other POP3 servers that have the same messages. Every difference is explained by a rule of
// the table in differential_rules_test.go, and every rule is met.

var updateDifferences = flag.Bool("update", false, "write docs/pop3-differences.md")

const (
	differentialSequences = 2000
	differentialSeed      = 1939
	differentialWorkers   = 12
	differentialDomain    = "example.com"
	differentialPassword  = "open sesame"
	// differentialTries is how often a sequence is played on a rival that answers it in a way that no rule explains. Under load they now
	// and then lose their step where a line arrives octet by octet; only what they do each time is a difference.
	differentialTries = 3
	// differentialPatience bounds one sequence on one server.
	differentialPatience = 10 * time.Second
)

// popPeer is a server with one mailbox for every sequence, each with the messages of differentialMessages.
type popPeer interface {
	name() string
	addr() string
	// left lists the messages of a sequence's mailbox that are still there, by their index from 0.
	left(sequence int) ([]int, error)
	// normalise takes out of a message what the server is known to put in by itself.
	normalise(body string) string
}

// rival is a server that Latchkey is compared with.
type rival interface {
	popPeer
	// fill gives a sequence's mailbox all its messages again.
	fill(sequence int) error
}

// class is how a reply begins.
type class string

const (
	positive class = "+OK"
	negative class = "-ERR"
	goOn     class = "+"
	// noReply: the connection ended instead.
	noReply class = "closed"
	// broken: no reply in time, one that has no end, or no reply at all by RFC 1939 §3.
	broken class = "broken"
)

// outcome is what a server made of one command.
type outcome struct {
	class class
	// shape is what must be the same on all servers: the class, the numbers of the first line, the lines of a multi-line reply.
	shape string
	// line is the first line, for a report.
	line string
}

func (o outcome) String() string { return fmt.Sprintf("%q as %.200q", o.line, o.shape) }

// play sends a sequence from an address of its own and returns one outcome for each command.
func (s *sequence) play(p popPeer) ([]outcome, error) {
	from := &net.TCPAddr{IP: net.IPv4(127, byte(s.n%200)+1, byte(s.n/200), 1)}
	dialer := net.Dialer{LocalAddr: from, Timeout: differentialPatience}
	conn, err := dialer.Dial("tcp", p.addr())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // a drop is how many sequences end
	if err := conn.SetDeadline(time.Now().Add(differentialPatience)); err != nil {
		return nil, err
	}
	r := &replyReader{r: bufio.NewReader(conn), peer: p}
	outcomes := make([]outcome, 0, len(s.commands)+1)
	outcomes = append(outcomes, r.read(&popCommand{verb: "GREETING"}))
	sent := make(chan struct{})
	if s.pipelined {
		go func() {
			defer close(sent)
			s.write(conn, s.whole())
		}()
	} else {
		close(sent)
	}
	for i := range s.commands {
		c := &s.commands[i]
		if !s.pipelined {
			s.write(conn, c.line)
		}
		o := r.read(c)
		if o.class == goOn {
			s.write(conn, c.response)
			o = r.read(c)
		}
		outcomes = append(outcomes, o)
	}
	if r.ended {
		_ = conn.Close() // whoever still writes is not heard
	}
	<-sent
	return append(outcomes, s.end(conn, r)), nil
}

// end is the last outcome: what still comes when our side says no more.
func (s *sequence) end(conn net.Conn, r *replyReader) outcome {
	if s.ending == byDrop {
		return outcome{class: noReply, shape: string(noReply)}
	}
	if s.ending == byHalfLine {
		s.write(conn, []byte("QUIT"))
	}
	if half, ok := conn.(*net.TCPConn); ok {
		_ = half.CloseWrite() // the server may have closed
	}
	rest, _ := io.ReadAll(io.LimitReader(r.r, 1<<16)) // a reset is an end too
	if len(rest) == 0 {
		return outcome{class: noReply, shape: string(noReply)}
	}
	line, _, _ := strings.Cut(string(rest), "\r\n")
	return outcome{class: "more", shape: "more: " + replyClass(line), line: line}
}

// write sends octets in pieces of the sequence's size. That a server has closed is seen where its reply is missed.
func (s *sequence) write(conn net.Conn, octets []byte) {
	for len(octets) > 0 {
		n := len(octets)
		if s.split > 0 {
			n = min(n, max(s.split, len(octets)/100)) // nobody cares where the thousandth octet of a line comes from
		}
		if _, err := conn.Write(octets[:n]); err != nil {
			return
		}
		octets = octets[n:]
	}
}

// replyReader reads replies and keeps of them what must be the same everywhere.
type replyReader struct {
	r     *bufio.Reader
	peer  popPeer
	ended bool
}

var errTimeout = errors.New("no reply in time")

// line reads a line that must end with CRLF (RFC 1939 §3). ok is false at the end of the connection.
func (r *replyReader) line() (line string, ok bool, err error) {
	line, err = r.r.ReadString('\n')
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return line, false, errTimeout
	case err != nil && line == "":
		r.ended = true
		return "", false, nil
	case err != nil:
		r.ended = true
		return line, false, fmt.Errorf("a line cut off: %q", line)
	}
	if !strings.HasSuffix(line, "\r\n") {
		return line, false, fmt.Errorf("a line without CRLF: %q", line)
	}
	return strings.TrimSuffix(line, "\r\n"), true, nil
}

func replyClass(line string) string {
	word, _, _ := strings.Cut(line, " ")
	return word
}

// numbers is a drop listing; scan are listings of one message, which is how they are told from the first line of a list.
var (
	numbers = regexp.MustCompile(`^\+OK (\d+) (\d+)`)
	scan    = map[string]*regexp.Regexp{"LIST": regexp.MustCompile(`^\+OK (\d+) (\d+)$`), "UIDL": regexp.MustCompile(`^\+OK (\d+) (\S+)$`)}
)

func (r *replyReader) read(c *popCommand) outcome {
	if r.ended {
		return outcome{class: noReply, shape: string(noReply)}
	}
	o, err := r.reply(c)
	if err != nil {
		r.ended = true // nothing after it can be told apart
		return outcome{class: broken, shape: string(broken), line: err.Error()}
	}
	return o
}

func (r *replyReader) reply(c *popCommand) (outcome, error) {
	line, ok, err := r.line()
	if err != nil {
		return outcome{}, err
	}
	if !ok {
		return outcome{class: noReply, shape: string(noReply)}, nil
	}
	o := outcome{class: class(replyClass(line)), line: line}
	if !slices.Contains([]class{positive, negative, goOn}, o.class) {
		return o, fmt.Errorf("no reply: %.40q", line)
	}
	o.shape = string(o.class)
	if o.class != positive {
		return o, nil
	}
	first := numbers.FindStringSubmatch(line)
	if one := scan[c.verb]; one != nil {
		first = one.FindStringSubmatch(line)
	}
	args := strings.Fields(strings.ReplaceAll(c.args, "\x00", " "))
	switch c.verb {
	case "STAT":
		if first == nil {
			return o, fmt.Errorf("answer to STAT: %q", line)
		}
		o.shape = strings.Join(first, " ")
	case "LIST", "UIDL":
		if len(args) > 0 && first != nil {
			o.shape = "one " + listed(c.verb, first[1], first[2])
			return o, nil
		}
		err = r.multi(&o, c.verb)
	case "RETR", "TOP", "CAPA":
		err = r.multi(&o, c.verb)
	case "AUTH":
		if len(args) == 0 {
			err = r.multi(&o, c.verb)
		}
	}
	return o, err
}

// listed is a scan listing; of a unique-id only its form is compared (RFC 1939 §7).
func listed(verb, n, what string) string {
	if verb == "UIDL" && uniqueID.MatchString(what) {
		what = "uid"
	}
	return n + " " + what
}

var uniqueID = regexp.MustCompile(`^[!-~]{1,70}$`)

// multi reads the rest of a multi-line reply and undoes the dot-stuffing.
func (r *replyReader) multi(o *outcome, verb string) error {
	var body strings.Builder
	for {
		line, ok, err := r.line()
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("cut off in the answer to %s", verb)
		case line == ".":
			text := body.String()
			switch verb {
			case "RETR", "TOP":
				text = r.peer.normalise(text)
			case "CAPA", "AUTH": // what a server can do is its own matter
				text = ""
			}
			o.shape = "lines:\n" + text
			return nil
		}
		line = strings.TrimPrefix(line, ".")
		if verb == "LIST" || verb == "UIDL" {
			n, what, _ := strings.Cut(line, " ")
			line = listed(verb, n, what)
		}
		body.WriteString(line + "\r\n")
	}
}

// difference is where a server answered other than Latchkey.
type difference struct {
	peer     string
	sequence *sequence
	// command is the one that was answered, or one with verb END.
	command      *popCommand
	before       []popCommand // those before it
	loggedIn     bool         // on both
	bad          int          // negative replies to this command and those before it, in this state, on Latchkey
	ours, theirs outcome
}

func (d *difference) String() string {
	return fmt.Sprintf("sequence %d (%s), %.120q: ours %s, %s %s", d.sequence.n, d.sequence.how(), d.command.line, d.ours, d.peer, d.theirs)
}

// splits reports whether the two sessions are in different states from here on, so that nothing more can be compared.
func (d *difference) splits() bool {
	for _, c := range []class{noReply, broken} {
		if d.ours.class == c || d.theirs.class == c {
			return true
		}
	}
	return d.ours.class != d.theirs.class && slices.Contains([]string{"USER", "PASS", "APOP", "AUTH", "DELE", "RSET", "QUIT", "STLS"}, d.command.verb)
}

// compare lists the differences between two plays, up to one after which the sessions are no longer alike.
func (s *sequence) compare(peer string, ours, theirs []outcome) (found []difference, alike bool) {
	loggedIn, bad := false, 0
	commands := append([]popCommand{{verb: "GREETING"}}, s.commands...)
	commands = append(commands, popCommand{verb: "END", line: []byte("(end)")})
	for i := range ours {
		c := &commands[i]
		if ours[i].class == negative {
			bad++
		}
		if ours[i].shape != theirs[i].shape {
			d := difference{
				peer: peer, sequence: s, command: c, before: commands[:i], loggedIn: loggedIn, bad: bad, ours: ours[i], theirs: theirs[i],
			}
			found = append(found, d)
			if d.splits() {
				return found, false
			}
		}
		if ours[i].class == positive && (c.verb == "PASS" || c.verb == "AUTH" && len(strings.Fields(c.args)) > 0) {
			loggedIn, bad = true, 0
		}
	}
	return found, true
}

// verdicts collects what the table says of the differences.
type verdicts struct {
	mu   sync.Mutex // protects the rest
	hits map[string]map[string]int
	seen int
	// unexplained is by what was sent and answered: the first of its kind, and how many there are.
	unexplained map[string]*unexplained
}

type unexplained struct {
	first difference
	n     int
}

func (v *verdicts) judge(d *difference) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen++
	if r := d.rule(); r != nil {
		if v.hits[r.name] == nil {
			v.hits[r.name] = map[string]int{}
		}
		v.hits[r.name][d.peer]++
		return
	}
	kind := fmt.Sprintf("%s %q %s %s %t", d.peer, d.command.verb+d.command.args, d.ours.class, d.theirs.class, d.loggedIn)
	if v.unexplained[kind] == nil {
		v.unexplained[kind] = &unexplained{first: *d}
	}
	v.unexplained[kind].n++
}

// TestInteropDifferential compares Latchkey with Dovecot and with GNU Mailutils over generated command sequences.
func TestInteropDifferential(t *testing.T) {
	t.Parallel()
	started := time.Now()
	messages := differentialMessages()
	ours := newLatchkeyPeer(t, messages)
	peers := []rival{newDovecotPeer(t, messages), newMailutilsPeer(t, messages)}
	t.Logf("three servers with %d mailboxes in %v", differentialSequences, time.Since(started))
	v := &verdicts{hits: map[string]map[string]int{}, unexplained: map[string]*unexplained{}}
	work := make(chan int)
	var running sync.WaitGroup
	for range differentialWorkers {
		running.Go(func() {
			for n := range work {
				compareSequence(t, v, newSequence(differentialSeed, n), ours, peers)
			}
		})
	}
	for n := range differentialSequences {
		work <- n
	}
	close(work)
	running.Wait()
	t.Logf("%d sequences, %d differences, %v", differentialSequences, v.seen, time.Since(started))
	for _, kind := range slices.Sorted(maps.Keys(v.unexplained)) {
		u := v.unexplained[kind]
		t.Errorf("no rule explains (%d times): %s", u.n, &u.first)
	}
	for i := range differentialRules {
		r := &differentialRules[i]
		for _, peer := range r.peers {
			if v.hits[r.name][peer] == 0 {
				t.Errorf("no sequence met the rule %q with %s: is it still true?", r.name, peer)
			}
		}
		t.Logf("%s: %v", r.name, v.hits[r.name])
	}
	checkDifferencesDocument(t)
}

func compareSequence(t *testing.T, v *verdicts, s *sequence, ours popPeer, peers []rival) {
	mine, err := s.play(ours)
	if err != nil {
		t.Errorf("sequence %d (%s) on Latchkey: %v", s.n, s.how(), err)
		return
	}
	left, err := ours.left(s.n)
	if err != nil {
		t.Errorf("sequence %d: %v", s.n, err)
		return
	}
	for _, p := range peers {
		theirs, err := s.play(p)
		if err != nil {
			t.Errorf("sequence %d (%s) on %s: %v", s.n, s.how(), p.name(), err)
			continue
		}
		found, alike := s.compare(p.name(), mine, theirs)
		for tries := 1; tries < differentialTries && slices.ContainsFunc(found, func(d difference) bool { return d.rule() == nil }); tries++ {
			t.Logf("played again, as %s may have lost its step: %s", p.name(), &found[0])
			if err := p.fill(s.n); err != nil {
				t.Error(err)
				return
			}
			if theirs, err = s.play(p); err != nil {
				t.Errorf("sequence %d (%s) on %s: %v", s.n, s.how(), p.name(), err)
				return
			}
			found, alike = s.compare(p.name(), mine, theirs)
		}
		for i := range found {
			v.judge(&found[i])
		}
		if !alike {
			continue
		}
		theirsLeft, err := p.left(s.n)
		tick := time.NewTicker(50 * time.Millisecond)
		for tries := 0; tries < 40 && err == nil && !slices.Equal(left, theirsLeft); tries++ { // it may still be at work
			<-tick.C
			theirsLeft, err = p.left(s.n)
		}
		tick.Stop()
		if err != nil {
			t.Errorf("sequence %d: %v", s.n, err)
		} else if !slices.Equal(left, theirsLeft) {
			v.judge(&difference{
				peer: p.name(), sequence: s, command: &popCommand{verb: "LEFT", line: []byte("(messages left)")},
				ours: outcome{shape: fmt.Sprint(left)}, theirs: outcome{shape: fmt.Sprint(theirsLeft)},
			})
		}
	}
}

// checkDifferencesDocument compares docs/pop3-differences.md with the table, or writes it.
func checkDifferencesDocument(t *testing.T) {
	t.Helper()
	file := filepath.Join("..", "..", "docs", "pop3-differences.md")
	want := differencesDocument()
	if *updateDifferences {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/pop3-differences.md is not what the table says: go test -tags interop -run TestInteropDifferential ./cmd/latchkey -update")
	}
}
