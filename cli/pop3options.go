package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

// Flags of what a mailbox does for old clients; show names them too.
const (
	oldClientLoginFlag = "old-client-login"
	replaceNULFlag     = "replace-nul"
	endHeaderFlag      = "end-header"
	statusHeaderFlag   = "status-header"
	lastFlag           = "last"
	selectFlag         = "select"
)

// addPOP3Flags adds what a mailbox does for old clients. fill puts what was given into a change.
func addPOP3Flags(cmd *cobra.Command) (fill func(*webmanager.AccountChange)) {
	flags := cmd.Flags()
	oldLogin := flags.Bool(oldClientLoginFlag, false,
		"let it use the doors for old clients, APOP, CRAM-MD5 and SCRAM; its password is kept, encrypted, from its next login (=false: forget it)")
	replaceNUL := flags.Bool(replaceNULFlag, false, "send 0x80 for NUL octets, at which Outlook stops (=false: as they are)")
	endHeader := flags.Bool(endHeaderFlag, false, "end headers that have no end, for which Outlook Express waits (=false: as they are)")
	statusHeader := flags.Bool(statusHeaderFlag, false, "put Status before messages that were fetched before, for Eudora (=false: not)")
	last := flags.Bool(lastFlag, false, "offer LAST (=false: not)")
	choice := flags.String(selectFlag, "", "what a login lists: all (empty), new, such as 7d, or such as max=200")
	return func(body *webmanager.AccountChange) {
		var change webmanager.POP3Change
		for _, option := range []struct {
			flag string
			from *bool
			to   **bool
		}{
			{oldClientLoginFlag, oldLogin, &body.OldClientLogin},
			{replaceNULFlag, replaceNUL, &change.ReplaceNUL},
			{endHeaderFlag, endHeader, &change.EndHeader},
			{statusHeaderFlag, statusHeader, &change.StatusHeader},
			{lastFlag, last, &change.Last},
		} {
			if flags.Changed(option.flag) {
				*option.to = option.from
			}
		}
		if flags.Changed(selectFlag) {
			change.Select = choice
		}
		if change != (webmanager.POP3Change{}) {
			body.POP3 = &change
		}
	}
}

// oldClientLogin says whether a mailbox has old-client login of its own, and whether its password is kept, which the domain's setting does too.
func oldClientLogin(a webmanager.Account) string {
	text := "off"
	if a.OldClientLogin {
		text = "on"
	}
	if a.PasswordKept {
		text += ", password kept"
	}
	return text
}

// pop3Options lists what is on, by the names of the flags.
func pop3Options(o store.POP3Options) string {
	var on []string
	for _, option := range []struct {
		name string
		is   bool
	}{
		{replaceNULFlag, o.ReplaceNUL}, {endHeaderFlag, o.EndHeader}, {statusHeaderFlag, o.StatusHeader}, {lastFlag, o.Last},
		{selectFlag + "=" + o.Select, o.Select != ""},
	} {
		if option.is {
			on = append(on, option.name)
		}
	}
	return orDash(strings.Join(on, ","))
}
