// Package cli is the command line: cobra commands that are clients of the webmanager's API.
//
// While the server of a data directory runs, a command speaks to it over the control socket; otherwise it opens the store itself and
// calls the same API in its own process. What data a command was asked for goes to standard output, everything said to people to
// standard error. The exit status is 0 (done), 1 (it failed, was refused, or check found something) or 2 (wrong usage or
// configuration).
//
// The package builds no server and opens no store: [Env] brings the functions that do.
package cli
