package redispool

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Roles of a Cluster's node, as far as they are known.
const (
	roleUnknown int32 = iota
	rolePrimary
	roleReplica
	roleSecret // the user may not ask
)

// askRole asks a node for its role, for Stats. That the user may not ask is no failure, and it is
// not asked again: the server would log that each time.
func (n *node) askRole(ctx context.Context, own *redis.Client) {
	if n.role.Load() == roleSecret {
		return
	}
	answer, err := own.Do(ctx, "role").Slice()
	if isForbidden(err) {
		n.role.Store(roleSecret)
	}
	if err != nil || len(answer) == 0 {
		return
	}
	switch answer[0] {
	case "master":
		n.role.Store(rolePrimary)
	case "slave":
		n.role.Store(roleReplica)
	default:
		n.role.Store(roleUnknown)
	}
}
