package guard

import "net"

// NetConn returns the connection below.
func (c *countedConn) NetConn() net.Conn { return c.Conn }
