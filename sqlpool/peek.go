package sqlpool

// sign is what can be seen of the other side of a connection without reading.
type sign uint8

const (
	signNone   sign = iota // nothing has come in, or it cannot be known
	signUnread             // something has: a notice or, where TLS hides it, perhaps a farewell
	signGone               // the other side has closed it, or has said that it does
)
