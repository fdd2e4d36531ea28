package pop3

// Conn is one client's connection.
type Conn struct{}
