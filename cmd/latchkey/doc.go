// Command latchkey serves the mail of one virtual domain.
//
// main.go turns signals and arguments into calls, wire.go builds everything from top to bottom, run.go starts and stops it, and demo.go
// is the demonstration. Nothing else belongs here.
package main
