//go:build interop

package main

// galleryPages are the pictures of docs/gallery.md: from the name of a picture of every page to that of its file.
var galleryPages = map[string]string{
	"owner-wide-light":                       "overview",
	"owner-dns-narrow-light":                 "dns",
	"operator-narrow-dark":                   "overview-telephone",
	"mailbox-queue-narrow-light":             "queue",
	"mailbox-mailbox-mail-narrow-light":      "mail",
	"owner-sending-wide-dark":                "who-may-send",
	"owner-trail-wide-light":                 "trail",
	"owner-holds-narrow-dark":                "holds",
	"mailbox-mailbox-narrow-light":           "mailbox",
	"stranger-help-wide-light":               "help",
	"stranger-help-thunderbird-narrow-light": "help-thunderbird",
}
