// Package guide is the help guide for people who set up a mail program: a page for each program, filled with the values of a mailbox, a page
// for what mail programs say when something fails, and a search over both, in English and German.
//
// [Guide.Page], [Guide.Problems], [Guide.Index] and [Guide.Results] make fragments of HTML that any layout may hold; they have no style and no
// script in them. [Guide.ServeHTTP] serves them to everybody in the layout of Options.Layout, with example values or those of the mailbox that
// Options.Values finds.
//
// What a page says to type is package clientsetup's. Each page names the dialogues of testdata that show its program speaking so to the
// server; a test of cmd/latchkey plays them at the very doors that the page names, and fails if the page says something else.
//
// It does not own: who is signed in, the texts of refusals (internal/refusal), and the doors.
package guide
