// Package archive is the form of a backup: pieces, each with a name, a length and a checksum, and a manifest that lists them all.
//
// It owns how a backup travels (a tar stream with the manifest as its last entry) and how it lies in a directory ([Dir]). It does not own
// what the pieces mean: that is the engine's, which makes them ([Writer]) and puts them back ([Source]).
//
// # Manifest
//
// A manifest is a text:
//
//	latchkey backup 1
//	domain example.com
//	taken 2026-04-01T12:00:00.000000001Z
//	piece journal/0000000000000001-0123456789abcdef.seg 1048576 89abcdef
//	piece mail-0123456789abcdef.db 32768 89abcdef
//	end 2 01234567
//
// Pieces are in ascending order of their names. A checksum is a CRC32C; that of the last line covers everything before this line, so a
// manifest that was cut short or changed is told from a whole one.
//
// # Directory
//
// A piece lies in the directory under its name. Only the octets that the manifest counts belong to it: what lies behind them was left by a
// backup that broke off. A new backup adds pieces and appends to pieces, and never changes an octet that the present manifest counts; its
// manifest takes the place of the present one when everything else is durable, and only then are pieces removed that it does not list. So
// whatever breaks off, the directory holds the last complete backup.
package archive
