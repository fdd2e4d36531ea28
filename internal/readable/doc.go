// Package readable turns a message, whoever wrote it, into text that people can look at without harm: decoded, bounded, and with nothing in it that
// hides, turns around or runs.
//
// It reads a message once, from its beginning to its end, and keeps no more of it than its bounds say, however large it is. It never fails on what is
// in a message: what cannot be decoded is shown as it came, or left out and said to be. HTML becomes plain text, and nothing of it is kept as HTML.
//
// It does not own where messages are kept, nor how text is put into a page.
//
// Relevant RFCs: 2045, 2046 and 2047 (MIME), 2183 and 2231 (names of files), 5322 (the header), 6532 (UTF-8 in it).
package readable
