package webmanager

import (
	"net"
	"syscall"
)

// peerUID asks the kernel who made the connection.
func peerUID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *syscall.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		cred, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	switch {
	case err != nil:
		return -1, err
	case asked != nil:
		return -1, asked
	}
	return int(cred.Uid), nil
}
