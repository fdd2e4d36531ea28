package webmanager

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/store"
	"latchkey/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serveControl(t *testing.T, dir string) (*Control, *memstore.Store) {
	t.Helper()
	s := memstore.New(domain)
	c, err := ListenControl(dir, New(Options{Store: s, Hasher: fakeHasher{}}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- c.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, ControlSocket)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return c, s
}

func TestControl(t *testing.T) {
	for name, dir := range map[string]string{
		"short path": t.TempDir(),
		"long path":  filepath.Join(t.TempDir(), strings.Repeat("a", 100), strings.Repeat("b", 100)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			_, s := serveControl(t, dir)
			info, err := os.Lstat(filepath.Join(dir, ControlSocket))
			if err != nil || info.Mode() != os.ModeSocket|0o600 {
				t.Fatalf("socket: got %v, %v", info.Mode(), err)
			}
			client, err := DialControl(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := client.Do(t.Context(), "POST", "/v1/accounts", NewAccount{Name: "anna", Password: "12345678"}, nil); err != nil {
				t.Fatal(err)
			}
			if err := client.Do(t.Context(), "DELETE", "/v1/accounts/nobody", nil, nil); !isCode(err, CodeNotFound) {
				t.Errorf("got %v", err)
			}
			if err := client.Do(t.Context(), "DELETE", "/v1/accounts/anna", nil, nil); err != nil {
				t.Error(err)
			}
			entries, err := s.ListAudit(t.Context(), 0, 10)
			if err != nil || len(entries) != 2 || entries[0].Actor != LocalActor(os.Getuid()).Name || entries[0].Remote.IsValid() {
				t.Errorf("audit: got %+v, %v", entries, err)
			}
		})
	}
}

func TestControlSocketPathBound(t *testing.T) {
	base := t.TempDir()
	for n := maxSocketPath - 1; n <= maxSocketPath+1; n++ {
		dir := filepath.Join(base, strings.Repeat("d", n-len(base)-len(ControlSocket)-2))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if got := len(filepath.Join(dir, ControlSocket)); got != n {
			t.Fatalf("path of %d octets, want %d", got, n)
		}
		serveControl(t, dir)
		client, err := DialControl(t.Context(), dir)
		if err != nil {
			t.Fatalf("%d octets: %v", n, err)
		}
		client.Close()
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, ControlSocket), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := DialControl(t.Context(), dir); !errors.Is(err, ErrNotServed) {
		t.Errorf("stale socket: got %v", err)
	}
	serveControl(t, dir)
	client, err := DialControl(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var settings store.Settings
	if err := client.Do(t.Context(), "GET", "/v1/settings", nil, &settings); err != nil || settings.Domain != domain {
		t.Errorf("got %+v, %v", settings, err)
	}
}

func TestNoSocket(t *testing.T) {
	if _, err := DialControl(t.Context(), t.TempDir()); !errors.Is(err, ErrNotServed) {
		t.Errorf("no socket: got %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ControlSocket), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenControl(dir, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "is in the way and is no socket") {
		t.Errorf("file in the way: got %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, ControlSocket)); string(data) != "mine" {
		t.Errorf("the file was touched: %q, %v", data, err)
	}
}

func TestStoppingServerIsSaid(t *testing.T) {
	dir := t.TempDir()
	c, err := ListenControl(dir, New(Options{Store: memstore.New(domain), Hasher: fakeHasher{}}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client, err := DialControl(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.Do(t.Context(), "GET", "/v1/version", nil, nil); err == nil || !strings.Contains(err.Error(), "the server broke off") {
		t.Errorf("got %v", err)
	}
}

func TestAdmits(t *testing.T) {
	for _, tt := range []struct {
		uid, own int
		want     bool
	}{{0, 0, true}, {0, 500, true}, {500, 500, true}, {501, 500, false}, {500, 0, false}, {-1, 0, false}, {-1, 500, false}} {
		if got := admits(tt.uid, tt.own); got != tt.want {
			t.Errorf("user %d at the server of %d: got %v", tt.uid, tt.own, got)
		}
	}
}
