//go:generate go test -run TestDocumentIsUpToDate -update

package config

import (
	"fmt"
	"strings"
)

// Markdown returns docs/configuration.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Generated from the table in ` + "`config/keys.go`" + ` by ` + "`go generate ./config`" + `; a test keeps it up to date.

A flag wins over the environment, the environment over the file, the file over the default. The file is TOML; it is named by
` + "`--config`" + ` or ` + "`LATCHKEY_CONFIG`" + `, and there is no default file. Every mistake in it is reported at once, each with its line, and the
server does not start. ` + "`serve`" + ` takes every flag; the commands that manage a domain take ` + "`--data`" + ` and ` + "`--config`" + `.

| key in the file | flag | variable | default | meaning |
|---|---|---|---|---|
`)
	for _, k := range Keys() {
		fmt.Fprintf(&b, "| `%s` | `--%s` | `%s` | %s | %s |\n", k.Name, k.Flag(), k.Env(), codeOrNothing(k.Default), k.Help)
	}
	fmt.Fprintf(&b, `
A door (`+"`listen.*`"+`) takes up to %d addresses: with commas between, or in the file also as a list. The host is an IP address,
`+"`localhost`"+`, or empty for all. `+"`pop3s`, `submission`, `smtps`, `old_pop3s` and `old_smtps`"+` need a certificate; `+"`pop3` and `mx`"+`
without one do not offer TLS, and `+"`pop3`"+` then takes passwords from loopback only. Limits are 1 to %d. Lists of networks and name servers
have up to %d entries.

The doors `+"`listen.old_*`"+` are off. They speak TLS 1.0 and later, and take passwords in the clear, for mailboxes and from networks that the
owner of the domain lets in: see [old clients](operator.md#old-clients), which also says what `+"`listen.sniff`"+` does.

An example:

`+"```toml"+`
data = "/var/lib/latchkey/example.com"
hostname = "mail.example.com"

[listen]
pop3 = ["192.0.2.10:110", "[2001:db8::10]:110"]
pop3s = ["192.0.2.10:995", "[2001:db8::10]:995"]
mx = ["192.0.2.10:25", "[2001:db8::10]:25"]
submission = ["192.0.2.10:587", "[2001:db8::10]:587"]
smtps = ["192.0.2.10:465", "[2001:db8::10]:465"]

[tls]
cert = "/etc/latchkey/example.com/fullchain.pem"
key = "/etc/latchkey/example.com/privkey.pem"

[log]
format = "json"
`+"```"+`

With a certificate of a CA, by ACME, `+"`[tls]`"+` is replaced by

`+"```toml"+`
[acme]
directory = "https://acme-v02.api.letsencrypt.org/directory"
agree_terms = "on"
account_key = "/var/lib/latchkey-acme/account.key"
http_listen = ["192.0.2.10:80", "[2001:db8::10]:80"]
`+"```"+`

See [certificates](operator.md#certificates).

What the owner of the domain decides is not here but in the data directory: `+"`latchkey settings show`"+` and `+"`latchkey settings set`"+`.
Two variables of the Go runtime are honoured as everywhere: `+"`GOMEMLIMIT` and `GOMAXPROCS`"+`.
`, MaxAddresses, MaxConnections, MaxNetworks)
	return b.String()
}

func codeOrNothing(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
