package webmanager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// ControlSocket is the name of the unix socket in the data directory.
const ControlSocket = "control.sock"

// Bounds of the control socket's connections.
const (
	controlHeaderTimeout = 10 * time.Second
	controlBodyTimeout   = 30 * time.Second
	controlIdleTimeout   = time.Minute
	maxControlHeader     = 16 << 10
	// maxSocketPath is what fits into sockaddr_un with its NUL.
	maxSocketPath = 107
)

// Control serves an API on the unix socket of a data directory. Its owner and root may connect, nobody else.
type Control struct {
	path     string
	listener net.Listener
	server   *http.Server
}

// ListenControl makes the socket. The caller holds the lock of the store in the directory, so a socket that is there was left behind
// by a process that died, and is replaced; anything else of that name is an error. The caller serves, and closes.
func ListenControl(dir string, api *API, logger *slog.Logger) (*Control, error) {
	path := filepath.Join(dir, ControlSocket)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is in the way and is no socket", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	inner, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	c := &Control{path: path, listener: &peerListener{inner, logger}}
	c.server = &http.Server{
		Handler:           api,
		ReadHeaderTimeout: controlHeaderTimeout,
		ReadTimeout:       controlBodyTimeout,
		IdleTimeout:       controlIdleTimeout,
		MaxHeaderBytes:    maxControlHeader,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if peer, ok := conn.(*peerConn); ok {
				return WithActor(ctx, LocalActor(peer.uid))
			}
			return ctx
		},
	}
	return c, nil
}

// listenUnix listens with permissions for the owner only. A path that is too long for a socket address is reached through the
// directory's descriptor.
func listenUnix(path string) (*net.UnixListener, error) {
	address, release, err := socketAddress(path)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func socketAddress(path string) (address string, release func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	release = func() { _ = dir.Close() } // only opened for its number
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), filepath.Base(path)), release, nil
}

// Serve answers requests until Shutdown; it returns nil then.
func (c *Control) Serve() error {
	if err := c.server.Serve(c.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown removes the socket, waits for requests that run until ctx ends, and then ends them.
func (c *Control) Shutdown(ctx context.Context) error {
	removed := os.Remove(c.path)
	if errors.Is(removed, fs.ErrNotExist) {
		removed = nil
	}
	err := c.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, c.server.Close())
	}
	_ = c.listener.Close() // closed already, unless nothing served it
	return errors.Join(removed, err)
}

// peerListener lets in connections of this process's own user and of root.
type peerListener struct {
	*net.UnixListener
	log *slog.Logger
}

// peerConn is a connection whose other end is known.
type peerConn struct {
	net.Conn
	uid int
}

func (l *peerListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && admits(uid, os.Geteuid()) {
			return &peerConn{conn, uid}, nil
		}
		l.log.Warn("control socket: connection refused", "uid", uid, "err", err)
		_ = conn.Close() // refused
	}
}

// admits says who may manage the domain of a server that runs as own.
func admits(uid, own int) bool { return uid == 0 || uid == own }
