//go:build interop

package main

// galleryPages are the pictures of docs/gallery.md: from the name of a picture of every page to that of its file.
var galleryPages = map[string]string{
	"owner-mailboxes-wide-light":             "mailboxes",
	"owner-sending-wide-dark":                "who-may-send",
	"owner-trail-wide-light":                 "trail",
	"owner-holds-narrow-dark":                "holds",
	"mailbox-mailbox-narrow-light":           "mailbox",
	"stranger-help-wide-light":               "help",
	"stranger-help-thunderbird-narrow-light": "help-thunderbird",
}
