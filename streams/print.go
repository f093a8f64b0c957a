package streams

import (
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// String returns the hub's name and the number of open streams.
func (h *Hub) String() string {
	return fmt.Sprintf("streams.Hub{%q, open: %d}", h.state.Name(), len(h.all()))
}

// Format prints String, whatever the verb.
func (h *Hub) Format(f fmt.State, _ rune) { printing.Format(f, h) }

// LogValue is String, for slog.
func (h *Hub) LogValue() slog.Value { return printing.LogValue(h) }

// MarshalJSON returns String as a JSON string.
func (h *Hub) MarshalJSON() ([]byte, error) { return printing.JSON(h) }

// String returns the client's name, and whether its stream is open. It never shows the URL.
func (c *Client) String() string {
	c.mu.Lock()
	open := c.open
	c.mu.Unlock()
	return fmt.Sprintf("streams.Client{%q, open: %t}", c.state.Name(), open)
}

// Format prints String, whatever the verb.
func (c *Client) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue is String, for slog.
func (c *Client) LogValue() slog.Value { return printing.LogValue(c) }

// MarshalJSON returns String as a JSON string.
func (c *Client) MarshalJSON() ([]byte, error) { return printing.JSON(c) }
