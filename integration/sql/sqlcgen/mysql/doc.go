// Package mysql is what sqlc makes of schema.sql and query.sql; see ../sqlc.yaml. Nothing but this
// comment is written by hand.
package mysql
