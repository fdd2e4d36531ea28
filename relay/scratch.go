package relay

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"latchkey/internal/message"
)

// maxBDAT is how long the line can be that announces a chunk, in octets.
const maxBDAT = len("BDAT 12345678901234567890 LAST\r\n")

// scratch is what the sending of one message needs to hold of it. Those that are free wait for the next message, whoever's that is: a
// connection that waits holds none.
type scratch struct {
	buf    []byte
	repair *message.RepairReader
}

var scratches = sync.Pool{New: func() any {
	return &scratch{buf: make([]byte, sendBuffer), repair: message.NewRepairReader(nil)}
}}

// done gives the scratch to others. Nothing of it may be in use.
func (s *scratch) done() {
	s.repair.Reset(nil)
	scratches.Put(s)
}

// repaired reads a message with the line ends that SMTP wants.
func (s *scratch) repaired(source io.Reader) io.Reader {
	s.repair.Reset(source)
	return s.repair
}

// chunk reads a whole message and returns it behind the command that announces it as the only chunk (RFC 3030 §2). It lies in the scratch.
func (s *scratch) chunk(source io.Reader) ([]byte, error) {
	b := bytes.NewBuffer(s.buf[:0])
	b.Write(make([]byte, maxBDAT)) // room for the command, whose length is not known yet
	if _, err := b.ReadFrom(s.repaired(source)); err != nil {
		return nil, err
	}
	s.buf = b.Bytes()[:b.Cap()] // it may have grown
	command := fmt.Sprintf("BDAT %d LAST\r\n", b.Len()-maxBDAT)
	whole := b.Bytes()[maxBDAT-len(command):]
	copy(whole, command)
	return whole, nil
}
