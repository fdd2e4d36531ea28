package pop3_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"latchkey/pop3"
	"latchkey/pop3/pop3test"
)

// failListing makes the first so many lists fail.
func failListing(b *pop3test.Backend, times int32) {
	var n atomic.Int32
	b.Listing = func() error {
		if n.Add(1) <= times {
			return errors.New("disk on fire")
		}
		return nil
	}
}

// TestListWhenNeeded: what STAT can answer asks for no list, and what needs one asks once.
func TestListWhenNeeded(t *testing.T) {
	for _, tt := range []struct {
		visit string
		lists int32
	}{
		{"STAT NOOP RSET CAPA QUIT", 0},
		{"RETR 0|RETR 4|TOP 4 0|DELE 4|LIST 4|UIDL 4|LIST 1 2|UIDL x|TOP 1|QUIT", 0},
		{"STAT LIST UIDL QUIT", 1},
		{"LIST 1|UIDL 1|RETR 1|TOP 1 0|DELE 1|RSET|DELE 2|STAT|QUIT", 1},
		{"DELE 1|DELE 2|RSET|QUIT", 1},
		{"RETR 1|QUIT", 1},
	} {
		b := newBackend()
		var lists atomic.Int32
		b.Listing = func() error { lists.Add(1); return nil }
		c := newClient(t, dial(t, serve(t, newServer(b))))
		c.login()
		commands := strings.Split(tt.visit, "|")
		if len(commands) == 1 {
			commands = strings.Fields(tt.visit)
		}
		for _, command := range commands {
			answer := c.cmd(command)
			verb, arg, _ := strings.Cut(command, " ")
			many := verb == "CAPA" || verb == "RETR" || verb == "TOP" || (verb == "LIST" || verb == "UIDL") && arg == ""
			if tt.lists > 0 && !strings.HasPrefix(answer, "+OK") {
				t.Errorf("%s: the answer to %s is %q", tt.visit, command, answer)
			}
			for many && strings.HasPrefix(answer, "+OK") && c.line() != "." {
			}
		}
		if n := lists.Load(); n != tt.lists {
			t.Errorf("%s: %d lists, want %d", tt.visit, n, tt.lists)
		}
	}
}

// unlike is a backend whose lists are not what Stat says.
type unlike struct {
	*pop3test.Backend
	change func([]pop3.Message) []pop3.Message
}

type unlikeSession struct {
	pop3.Session
	of unlike
}

type unlikeMaildrop struct {
	pop3.Maildrop
	of unlike
}

func (b unlike) NewSession(ctx context.Context, c *pop3.Conn) (pop3.Session, error) {
	s, err := b.Backend.NewSession(ctx, c)
	return unlikeSession{s, b}, err
}

func (s unlikeSession) Open(ctx context.Context) (pop3.Maildrop, error) {
	m, err := s.Session.Open(ctx)
	return unlikeMaildrop{m, s.of}, err
}

func (m unlikeMaildrop) Messages(ctx context.Context) ([]pop3.Message, error) {
	list, err := m.Maildrop.Messages(ctx)
	return m.of.change(list), err
}

// TestListUnlikeStat: a list that is not what the client was told by STAT is refused, and told to the log; the session goes on.
func TestListUnlikeStat(t *testing.T) {
	for name, change := range map[string]func([]pop3.Message) []pop3.Message{
		"one fewer":   func(list []pop3.Message) []pop3.Message { return list[1:] },
		"none":        func([]pop3.Message) []pop3.Message { return nil },
		"one more":    func(list []pop3.Message) []pop3.Message { return append(list, pop3.Message{UID: "more"}) },
		"other sizes": func(list []pop3.Message) []pop3.Message { list[1].Size--; return list },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := newServer(unlike{newBackend(), change})
			s.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c := newClient(t, dial(t, serve(t, s)))
			c.login()
			for _, command := range []string{"LIST", "UIDL 3", "RETR 3", "DELE 1"} {
				c.want("-ERR [SYS/TEMP]", command)
			}
			c.want("+OK 3 81", "STAT")
			c.want("+OK bye, 0 deleted, 3 left", "QUIT")
			c.ended()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), "not what Stat said") {
				t.Errorf("the log has %q", &log)
			}
		})
	}
}
