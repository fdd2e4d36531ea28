//go:build !linux

package smtp

// present reports whether a client that waits for an answer may still be there: here it is only known that nobody has ended the connection.
func (w *wire) present() bool { return w.ctx.Err() == nil }
