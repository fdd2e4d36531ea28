//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
)

// bareName is a server that knows no mail, no mailbox and no password: all that it does for a session of TLS is what crypto/tls does. No server
// that is built on that package can be quicker.
const bareName = "a server of constants"

// bareMain answers every line with +OK, and QUIT with the end, until standard input ends.
func bareMain(args []string) error {
	if len(args) != 2 {
		return errors.New("bare CERTIFICATE KEY")
	}
	return servePair(args[0], args[1], sayYes)
}

func sayYes(conn net.Conn) (err error) {
	defer func() { _ = conn.Close() }() // the client may have gone
	const yes = "+OK constant\r\n"
	if _, err := io.WriteString(conn, yes); err != nil {
		return err
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if _, err := io.WriteString(conn, yes); err != nil {
			return err
		}
		if strings.HasPrefix(lines.Text(), "QUIT") {
			break
		}
	}
	return nil
}

// startPair starts this program as a helper that listens in the clear and with TLS, and returns its addresses in that order.
func startPair(args ...string) (stop func() error, addrs []string, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() error { return errors.Join(stdin.Close(), cmd.Wait()) }
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if addrs = strings.Fields(line); err != nil || len(addrs) != 2 {
		return nil, nil, errors.Join(fmt.Errorf("%s says %q", args[0], line), err, stop())
	}
	return stop, addrs, nil
}

// servePair is the other side of startPair: it serves until standard input ends.
func servePair(cert, key string, serve func(net.Conn) error) error {
	certificate, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	for _, l := range []net.Listener{plain, secure} {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					if err := serve(conn); err != nil {
						fmt.Fprintln(os.Stderr, "served:", err)
					}
				}()
			}
		}()
	}
	fmt.Println(plain.Addr(), secure.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
