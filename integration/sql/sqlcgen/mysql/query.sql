-- name: CreateAccount :exec
INSERT INTO accounts (id, owner, balance) VALUES (?, ?, ?);

-- name: GetAccount :one
SELECT id, owner, balance FROM accounts WHERE id = ?;

-- name: ListAccounts :many
SELECT id, owner, balance FROM accounts ORDER BY id;

-- name: AddToBalance :execrows
UPDATE accounts SET balance = balance + sqlc.arg(amount) WHERE id = sqlc.arg(id);
