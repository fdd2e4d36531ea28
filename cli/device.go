package cli

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey/webmanager"
)

func newDevice(env *Env) *cobra.Command {
	return addDataFlags(group("device", "Device credentials: passwords of their own for scanners, scripts and telephones of a mailbox",
		newDeviceAdd(env), newDeviceList(env), newDeviceShow(env), newDeviceChange(env), newDeviceRevoke(env)))
}

// deviceFlags are what a device may do.
type deviceFlags struct {
	cmd        *cobra.Command
	scope      *[]string
	networks   *[]string
	own        *bool
	recipients *[]string
	size       *int64
	daily      *int
	expires    *string
}

func addDeviceFlags(cmd *cobra.Command) *deviceFlags {
	flags := cmd.Flags()
	return &deviceFlags{
		cmd:        cmd,
		scope:      flags.StringSlice("scope", []string{"send"}, "what it is for: send (SMTP), fetch (POP3), or send,fetch"),
		networks:   flags.StringSlice("network", nil, "addresses and networks from which it may be used; none: from anywhere"),
		own:        flags.Bool("own-domain", false, "it may send to the mailbox's own domain, and else only to --to (=false: not)"),
		recipients: flags.StringSlice("to", nil, "addresses, and domains with @ before them, to which alone it may send; none: to all"),
		size:       flags.Int64("message-size", 0, "most octets of a message that it sends; 0: no bound of its own"),
		daily:      flags.Int("daily-recipients", 0, "most recipients that it names in a day, those of the own domain too; 0: no bound of its own"),
		expires:    flags.String("expires", "", "when it ends by itself: a day such as 2027-06-30 (its beginning, in UTC), or days from now such as 90d; never: not"),
	}
}

// change is what was given; with all set, the defaults too.
func (f *deviceFlags) change(all bool) (c webmanager.DeviceChange, err error) {
	given := func(flag string) bool { return all || f.cmd.Flags().Changed(flag) }
	if given("scope") {
		send, fetch := false, false
		for _, word := range *f.scope {
			switch word {
			case "send":
				send = true
			case "fetch":
				fetch = true
			default:
				return c, usagef("--scope is send, fetch, or send,fetch, not %q", word)
			}
		}
		c.Send, c.Fetch = &send, &fetch
	}
	if given("network") {
		c.Networks = f.networks
	}
	if given("own-domain") {
		c.OwnDomain = f.own
	}
	if given("to") {
		c.Recipients = f.recipients
	}
	if given("message-size") {
		c.MessageSize = f.size
	}
	if given("daily-recipients") {
		c.DailyRecipients = f.daily
	}
	if f.cmd.Flags().Changed("expires") {
		at, err := parseExpiry(*f.expires, time.Now())
		if err != nil {
			return c, err
		}
		c.Expires = &at
	}
	return c, nil
}

// parseExpiry reads a day, a number of days, or never.
func parseExpiry(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	if digits, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(digits); err == nil && n > 0 && n <= 36500 {
			return now.UTC().AddDate(0, 0, n).Truncate(time.Second), nil
		}
	}
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return at, usagef("--expires is a day such as 2027-06-30, days from now such as 90d, or never, not %q", text)
	}
	return at, nil
}

func newDeviceAdd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "add MAILBOX NAME", Short: "Make a password for one device of a mailbox, and print it: the only time that it is seen",
		Long: "Make a password for one device of a mailbox, and print it: the only time that it is seen. The device logs in with the usual name of\n" +
			"the mailbox and this password, and may do no more than is said here. NAME shows in the log, in `account clients`, and in the\n" +
			"Received line of what it sends.",
		Args: wants(2, 2), ValidArgsFunction: env.completeAccounts,
	}
	flags := addDeviceFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := flags.change(true)
		if err != nil {
			return err
		}
		body := webmanager.DeviceRules{
			Name: args[1], Send: *c.Send, Fetch: *c.Fetch, Networks: *c.Networks, OwnDomain: *c.OwnDomain, Recipients: *c.Recipients,
			MessageSize: *c.MessageSize, DailyRecipients: *c.DailyRecipients,
		}
		if c.Expires != nil {
			body.Expires = *c.Expires
		}
		var added webmanager.AddedDevice
		if err := env.do(cmd, http.MethodPost, webmanager.Path("accounts", args[0], "devices"), body, &added); err != nil {
			return err
		}
		env.say("added device %s, %s, of %s; its password:", added.ID, printable(added.Name), printable(added.Address.String()))
		return env.showMade(added.Password, true)
	}
	return cmd
}

func newDeviceList(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [MAILBOX]", Short: "List the devices of a mailbox, or of all", Args: wants(0, 1), ValidArgsFunction: env.completeAccounts,
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query := url.Values{"limit": {strconv.Itoa(webmanager.DefaultListLimit)}}
		if len(args) > 0 {
			query.Set("mailbox", args[0])
		}
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		array := &jsonArray{out: env.Stdout}
		table := env.newTable([]string{"ID", "MAILBOX", "NAME", "FOR", "FROM", "TO", "EXPIRES"})
		for {
			var page webmanager.DevicePage
			if err := client.Do(cmd.Context(), http.MethodGet, webmanager.Path("devices")+"?"+query.Encode(), nil, &page); err != nil {
				return err
			}
			var rows [][]string
			for _, d := range page.Devices {
				if *asJSON {
					if err := array.print(d); err != nil {
						return err
					}
				}
				rows = append(rows, []string{
					d.ID.String(), d.Address.String(), d.Name, deviceScope(d), orDash(strings.Join(d.Networks, ",")), deviceRecipients(d), deviceExpiry(d),
				})
			}
			if !*asJSON {
				if err := table.print(rows); err != nil {
					return err
				}
			}
			if page.Next != "" {
				query.Set("after", page.Next)
				continue
			}
			if *asJSON {
				return array.end()
			}
			return nil
		}
	}
	return cmd
}

// ofDevice adds the name of a device, if it is one.
func ofDevice(text, device string) string {
	if device == "" {
		return text
	}
	return text + " (device " + device + ")"
}

func deviceScope(d webmanager.Device) string {
	switch {
	case d.Send && d.Fetch:
		return "send,fetch"
	case d.Send:
		return "send"
	}
	return "fetch"
}

func deviceRecipients(d webmanager.Device) string {
	to := d.Recipients
	if d.OwnDomain {
		to = append([]string{"own domain"}, to...)
	}
	if len(to) == 0 {
		return "all"
	}
	return strings.Join(to, ",")
}

func deviceExpiry(d webmanager.Device) string {
	text := "never"
	if !d.Expires.IsZero() {
		text = timestamp(d.Expires)
	}
	if d.Expired {
		text = "expired " + text
	}
	if !d.ClearSince.IsZero() {
		text += ", password seen in the clear"
	}
	return text
}

func newDeviceShow(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "show MAILBOX DEVICE", Short: "Show one device; DEVICE is its name or number", Args: wants(2, 2), ValidArgsFunction: env.completeAccounts}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var d webmanager.Device
		if err := env.get(cmd, webmanager.Path("accounts", args[0], "devices", args[1]), &d); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(d)
		}
		return env.printTable([]string{"name", d.Name}, [][]string{
			{"id", d.ID.String()},
			{"mailbox", d.Address.String()},
			{"scope", deviceScope(d)},
			{"networks", orDash(strings.Join(d.Networks, ","))},
			{"recipients", deviceRecipients(d)},
			{"message-size", boundOrDash(d.MessageSize)},
			{"daily-recipients", boundOrDash(int64(d.DailyRecipients))},
			{"expires", deviceExpiry(d)},
			{"seen-in-clear", seenInClear(d.ClearSince)},
			{"created", timestamp(d.Created)},
		})
	}
	return cmd
}

func boundOrDash(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func newDeviceChange(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "change MAILBOX DEVICE", Short: "Change what a device may do; its password stays", Args: wants(2, 2), ValidArgsFunction: env.completeAccounts,
	}
	flags := addDeviceFlags(cmd)
	rename := cmd.Flags().String("rename", "", "new name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body, err := flags.change(false)
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("rename") {
			body.Name = rename
		}
		if body == (webmanager.DeviceChange{}) {
			return usagef("nothing to change; see %s --help", cmd.CommandPath())
		}
		var d webmanager.Device
		if err := env.do(cmd, http.MethodPatch, webmanager.Path("accounts", args[0], "devices", args[1]), body, &d); err != nil {
			return err
		}
		env.say("changed device %s, %s", d.ID, printable(d.Name))
		return nil
	}
	return cmd
}

func newDeviceRevoke(env *Env) *cobra.Command {
	return &cobra.Command{
		Use: "revoke MAILBOX DEVICE...", Short: "End devices, for good: their passwords, sessions that send, and what they opened by POP before SMTP",
		Args: wants(2, -1), ValidArgsFunction: env.completeAccounts,
		RunE: func(cmd *cobra.Command, args []string) error {
			var failed error
			for _, device := range args[1:] {
				err := env.do(cmd, http.MethodDelete, webmanager.Path("accounts", args[0], "devices", device), nil, nil)
				if err == nil {
					env.say("revoked %s", printable(device))
				}
				failed = errors.Join(failed, err)
			}
			return failed
		},
	}
}
