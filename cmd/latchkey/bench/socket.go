//go:build linux

package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// socket is a TCP connection whose reads and writes block their thread. A client that is alone waits for its server all the time; this way it
// is woken by the kernel, and no poller and scheduler of its own stand between the two.
type socket struct{ fd int }

// dialSocket connects to an IPv4 address. Each read and each write may take answerTime.
func dialSocket(addr string) (*socket, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd}
	patience := syscall.NsecToTimeval(answerTime.Nanoseconds())
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &patience),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &patience),
		os.NewSyscallError("connect", again(func() error {
			return syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		})))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// again repeats what a signal interrupts.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (n int, err error) {
	err = again(func() error { n, err = syscall.Read(s.fd, p); return err })
	switch {
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (written int, err error) {
	for written < len(p) {
		n := 0
		err := again(func() (err error) { n, err = syscall.Write(s.fd, p[written:]); return err })
		if err != nil {
			return written, os.NewSyscallError("write", err)
		}
		written += n
	}
	return written, nil
}

// Close implements net.Conn.
func (s *socket) Close() error { return os.NewSyscallError("close", syscall.Close(s.fd)) }

// LocalAddr and the rest implement net.Conn, and know nothing: deadlines are what they are.
func (s *socket) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *socket) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *socket) SetDeadline(time.Time) error      { return nil }
func (s *socket) SetReadDeadline(time.Time) error  { return nil }
func (s *socket) SetWriteDeadline(time.Time) error { return nil }
