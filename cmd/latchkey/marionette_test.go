//go:build interop

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// marionette drives a Mozilla program over its remote protocol: frames of JSON behind their length, [0, id, command, parameters] and
// [1, id, error, result].
type marionette struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	id   int
}

// newMarionette connects to a program that may still be starting, and may then run scripts as the program itself does.
func newMarionette(t *testing.T, port int, deadline time.Time) *marionette {
	t.Helper()
	m := &marionette{t: t}
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			m.conn, m.r = conn, bufio.NewReader(conn)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the program does not listen: %v", err)
		}
		time.Sleep(50 * time.Millisecond) // it is another process
	}
	t.Cleanup(func() { _ = m.conn.Close() }) // the program is gone
	if err := m.conn.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	m.frame() // what it is
	m.do("WebDriver:NewSession", map[string]any{}, nil)
	m.do("WebDriver:SetTimeouts", map[string]any{"script": time.Until(deadline).Milliseconds()}, nil)
	m.do("Marionette:SetContext", map[string]any{"value": "chrome"}, nil)
	return m
}

func (m *marionette) frame() []byte {
	m.t.Helper()
	const most = 16 << 20
	length, err := m.r.ReadString(':')
	if err != nil {
		m.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil || n > most {
		m.t.Fatalf("a frame of %q octets: %v", length, err)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(m.r, text); err != nil {
		m.t.Fatal(err)
	}
	return text
}

// do sends a command and waits for its result.
func (m *marionette) do(command string, parameters, result any) {
	m.t.Helper()
	m.id++
	text, err := json.Marshal([]any{0, m.id, command, parameters})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(text), text); err != nil {
		m.t.Fatal(err)
	}
	var answer [4]json.RawMessage
	if err := json.Unmarshal(m.frame(), &answer); err != nil {
		m.t.Fatal(err)
	}
	if failure := string(answer[2]); failure != "null" {
		m.t.Fatalf("%s: %s", command, failure)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(answer[3], result); err != nil {
		m.t.Fatalf("%s: %v", command, err)
	}
}

// script runs the body of an asynchronous function with arguments and returns the text that it returns.
func (m *marionette) script(body string, args ...any) string {
	m.t.Helper()
	value, ended := m.tryScript(body, args...)
	if !ended {
		m.t.Fatalf("the window went away under\n%s", body)
	}
	return value
}

// tryScript is script for when the window may go away under it: then ended is unset, and the window that is there now is taken for what follows.
func (m *marionette) tryScript(body string, args ...any) (value string, ended bool) {
	m.t.Helper()
	if args == nil {
		args = []any{}
	}
	var result struct{ Value any }
	m.do("WebDriver:ExecuteAsyncScript", map[string]any{
		"script": `const done = arguments[arguments.length - 1], args = Array.from(arguments).slice(0, -1);
(async () => {` + body + `})().then(v => done(["", String(v)]), e => done([String(e) + "\n" + (e && e.stack), ""]));`,
		"args": args, "newSandbox": true, "sandbox": "system",
	}, &result)
	if result.Value == nil {
		var windows []string
		m.do("WebDriver:GetWindowHandles", map[string]any{}, &windows)
		if len(windows) > 0 {
			m.do("WebDriver:SwitchToWindow", map[string]any{"handle": windows[0]}, nil)
		}
		return "", false
	}
	list, ok := result.Value.([]any)
	if !ok || len(list) != 2 {
		m.t.Fatalf("a script returns %v", result.Value)
	}
	if list[0] != "" {
		m.t.Fatalf("%v\nin\n%s", list[0], body)
	}
	value, _ = list[1].(string)
	return value, true
}
