// Package redispool looks after the connections of a go-redis client.
package redispool
