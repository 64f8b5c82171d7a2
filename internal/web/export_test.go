package web

// MaxConnections is the bound of connections to our own port.
const MaxConnections = maxConnections
