package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/webmanager"
)

// passwordFlags say where a password comes from. It is never an argument: those are seen by everybody on the host.
type passwordFlags struct {
	stdin, generate *bool
}

func addPasswordFlags(cmd *cobra.Command) passwordFlags {
	return passwordFlags{
		stdin:    cmd.Flags().Bool("password-stdin", false, "read the password from standard input, one line"),
		generate: cmd.Flags().Bool("generate", false, "make a password and print it"),
	}
}

// read returns the password, and whether it was made here and must be shown.
func (p passwordFlags) read(env *Env) (password string, made bool, err error) {
	switch {
	case *p.generate && *p.stdin:
		return "", false, usagef("--generate and --password-stdin exclude each other")
	case *p.generate:
		return GeneratePassword(), true, nil
	case *p.stdin:
		password, err = readLine(env.Stdin)
		return password, false, err
	case env.ReadPassword == nil:
		return "", false, usagef("no terminal to ask for the password: use --password-stdin or --generate")
	}
	password, err = env.ReadPassword("Password: ")
	if err != nil {
		return "", false, err
	}
	again, err := env.ReadPassword("Once more: ")
	if err != nil {
		return "", false, err
	}
	if password != again {
		return "", false, errors.New("the two passwords differ; nothing was changed")
	}
	return password, false, nil
}

// readLine reads one line of at most webmanager.MaxPasswordLen octets.
func readLine(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, webmanager.MaxPasswordLen+3)) // one too many, and CRLF
	if err != nil {
		return "", fmt.Errorf("standard input: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", errors.New("standard input holds no password")
	}
	return line, nil
}

// GeneratePassword makes a password of 20 letters and digits (100 bits) in four groups, to be read aloud and typed.
func GeneratePassword() string {
	text := strings.ToLower(rand.Text())
	return text[0:5] + "-" + text[5:10] + "-" + text[10:15] + "-" + text[15:20]
}
