package main

import "net"

// notify tells the service manager a state such as "READY=1", as sd_notify(3) does; address is $NOTIFY_SOCKET, "" for no manager.
// Package net reads a leading "@" as the abstract name space.
func notify(address, state string) error {
	if address == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // a datagram has left, or not
	_, err = conn.Write([]byte(state))
	return err
}
