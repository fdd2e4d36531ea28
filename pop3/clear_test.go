package pop3_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"latchkey/pop3"
)

// TestPasswordInClear: a session is told of the passwords that came with commands which were refused, and the answers are those that they are
// without that. A name does not outlive the next PASS.
func TestPasswordInClear(t *testing.T) {
	for _, tt := range []struct{ commands, told []string }{
		{[]string{"PASS alone"}, nil},
		{[]string{"USER alice", "PASS  two words "}, []string{`alice " two words "`}},
		{[]string{"USER alice", "NOOP", "PASS secret"}, []string{`alice "secret"`}},
		{[]string{"USER", "PASS secret"}, nil},
		{[]string{"USER alice"}, nil},
		{[]string{"USER alice", "PASS one", "PASS two"}, []string{`alice "one"`}},
		{[]string{"AUTH plain AGEAYg=="}, []string{`PLAIN "\x00a\x00b"`}},
		{[]string{"AUTH LOGIN ="}, []string{`LOGIN ""`}},
		{[]string{"AUTH PLAIN", "AUTH PLAIN ?"}, nil},
		{[]string{"AUTH PLAIN AGEAYg== x"}, nil},
	} {
		var answers [2]string
		for i := range answers {
			b := newBackend()
			b.RefusePassword, b.Mechanisms = &pop3.Error{Code: pop3.CodeAuth, Text: "TLS first"}, nil
			var got []string
			if i == 0 {
				b.InClear = func(name, secret string) { got = append(got, fmt.Sprintf("%s %q", name, secret)) }
			}
			s := newServer(b)
			conn := dial(t, serve(t, s))
			if _, err := io.WriteString(conn, strings.Join(append(slices.Clone(tt.commands), "QUIT", ""), "\r\n")); err != nil {
				t.Fatal(err)
			}
			all, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			if answers[i] = string(all); i == 0 && !slices.Equal(got, tt.told) {
				t.Errorf("%q: told of %q, want %q", tt.commands, got, tt.told)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if answers[0] != answers[1] || strings.Count(answers[0], "-ERR") < len(tt.commands) {
			t.Errorf("%q is answered %q, and with nobody told %q", tt.commands, answers[0], answers[1])
		}
	}
}
