// Package message reads and edits Internet messages as streams: line ends, header fields, bounces. Memory never grows with the size
// of a message, only up to the named caps of its header.
//
// It owns three things:
//
//   - Line ends. [NewStrictReader] refuses a bare CR or LF (RFC 5321 §2.3.8); [NewRepairReader] makes one CRLF of a bare LF, of a
//     bare CR and of any run of CRs before a LF. Whatever comes out of either has CRLF line ends only, the last line included, so
//     it can be dot-stuffed and relayed without smuggling anything.
//   - Header fields. [Header] keeps the octets of every field as they came; what is not edited goes out unchanged.
//   - Bounces. [Bounce] writes a multipart/report (RFC 3464, RFC 6522) to any writer.
//
// NUL is refused in a header and kept in a body: header fields are compared and cut as text by other programs, bodies are not ours to
// change. A line that is no field ends the header; an empty line is then put before it, as other servers do. Lines longer than 998
// octets are counted, never cut.
//
// It does not own: who may send what, MIME parsing, and addresses' meaning (package mailaddr has their grammar).
//
// Relevant RFCs: 5322, 5321 §4.4, 3464, 6522, 6533, 6409 §8.
package message
