package smtp

import (
	"errors"
	"net"
	"syscall"
)

// present reports whether a client that waits for an answer is still there, and silent as it should be. It takes nothing from the connection.
func (w *wire) present() bool {
	below := w.Conn
	for {
		wrapped, ok := below.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		below = wrapped.NetConn()
	}
	c, ok := below.(syscall.Conn)
	if !ok {
		return w.ctx.Err() == nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	there := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		there = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && there && w.ctx.Err() == nil
}
