// Package config is what the operator of one instance decides: where its data is, which doors it opens and with which certificate,
// what it logs and how many connections it takes. What the owner of the domain decides (sizes, relaying, cleartext logins) are
// store.Settings and live in the data directory.
//
// There is one table, [Keys]. The keys of the TOML file, the names of environment variables and flags, their defaults and
// docs/configuration.md all come from it. A flag wins over the environment, the environment over the file, the file over the
// default. Every mistake is reported at once, those in the file with their line.
package config
