// Package dialog plays golden transcripts of POP3 and SMTP against a server, and checks the form of every reply on the way.
//
// A transcript is a text file of steps, one a line:
//
//	# a comment; it cites the RFC section that the dialogue shows
//	C: text        send a line with CRLF
//	C+: text       send a line in the same write as the one before: pipelining
//	C!: raw\r\n    send octets; \r \n \t \0 \\ and \xNN are escapes
//	C+!: raw\r\n   the same in the same write as the one before
//	C: EOF         close our side
//	S: text        read a line; it must be the same, without its CRLF
//	S!: raw        the same with escapes
//	S: EOF         the server closes
//	TLS            do a TLS handshake as client
//	NEW            close the connection and make another
//
// In a line that is read, {*} stands for anything. In every line {{name}} stands for a variable, and in one that is sent it may be what a
// function makes of the last line that was read: the answer to a challenge.
//
// It is for tests only; nothing else imports it.
package dialog
