package smtp

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"latchkey/internal/dialog"
)

// directives are the comments at the head of a transcript that say how it is played: "# door: mx", "# cleartext: off" and
// "# after: bob=1 jobs=0", which is what the store must hold in the end.
func directives(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimPrefix(line, "# "), ": "); ok && strings.HasPrefix(line, "# ") {
			switch key {
			case "door", "cleartext", "after":
				d[key] = strings.TrimSpace(value)
			}
		}
	}
	return d
}

// TestTranscripts plays every dialogue of testdata, once as written and once octet by octet.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		d := directives(t, file)
		for _, split := range []int{0, 1} {
			t.Run(filepath.Base(file)+" "+strconv.Itoa(split), func(t *testing.T) {
				door := Door(d["door"])
				implicit := door == "implicit"
				if implicit {
					door = Submission
				}
				if door != MX && door != Submission {
					t.Fatalf("door %q", door)
				}
				f := newFixture(t, door, func(o *Options) { o.ImplicitTLS = implicit })
				f.auth.cleartext = d["cleartext"] != "off"
				f.serve()
				conn, err := net.Dial("tcp", f.addr)
				f.must(err)
				dialog.Player{Protocol: dialog.SMTP, Split: split, Vars: map[string]string{
					"alice": plain("alice", "alice-pw"), "carol": plain("carol", "carol-pw"), "wrong": plain("alice", "wrong"),
				}}.Run(t, conn, file)
				for want := range strings.FieldsSeq(d["after"]) {
					name, n, _ := strings.Cut(want, "=")
					got := 0
					if name == "jobs" {
						got = len(f.jobs())
					} else {
						got = len(f.mail(name))
					}
					if strconv.Itoa(got) != n {
						t.Errorf("after the dialogue: %s has %d, want %s", name, got, n)
					}
				}
			})
		}
	}
}
