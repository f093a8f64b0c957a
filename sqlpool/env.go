package sqlpool

import (
	"errors"

	"github.com/poolkeeper/poolkeeper/internal/env"
)

// PostgresConfigFromEnv returns a PostgresConfig from environment variables, validated. Each is
// named after a field: with the prefix ORDERS, ORDERS_URL, ORDERS_MAX_OPEN, ORDERS_MAX_IDLE_TIME,
// ORDERS_TLS_FILES_CA, ORDERS_CREDENTIALS_FILE and so on. Durations are Go's (1m30s), or off where
// the field may be Off; ORDERS_LIFETIME_JITTER may be off too; ORDERS_MAX_WAITING may be none;
// ORDERS_START is one of fail-fast, wait-for-server, start-degraded; ORDERS_DISABLE_PEEK and its
// kin are true or false. A variable that is not set, or empty, means the default. TLS, Credentials,
// Configure and Logger have no variables; set them afterwards.
//
// Every fault is reported at once, with the variable, its value and what is allowed; the value of
// ORDERS_URL, and what is in files, is never shown. [NewPostgres] checks the content of ORDERS_URL.
// Other variables are ignored: others may have the same prefix.
func PostgresConfigFromEnv(prefix string) (PostgresConfig, error) {
	var c PostgresConfig
	if err := fromEnv(prefix, &c, func() config { return c.config() }); err != nil {
		return PostgresConfig{}, err
	}
	return c, nil
}

// MySQLConfigFromEnv is [PostgresConfigFromEnv] for [NewMySQL].
func MySQLConfigFromEnv(prefix string) (MySQLConfig, error) {
	var c MySQLConfig
	if err := fromEnv(prefix, &c, func() config { return c.config() }); err != nil {
		return MySQLConfig{}, err
	}
	return c, nil
}

// DBConfigFromEnv is [PostgresConfigFromEnv] for [NewDB]. A DBConfig has no URL, so there is no
// variable for it.
func DBConfigFromEnv(prefix string) (DBConfig, error) {
	var c DBConfig
	if err := fromEnv(prefix, &c, func() config { return c.config() }); err != nil {
		return DBConfig{}, err
	}
	return c, nil
}

// fromEnv fills the configuration that into points to. all returns it among the fields of all
// kinds.
func fromEnv(prefix string, into any, all func() config) error {
	mayBeOff := map[string]bool{}
	for _, t := range (config{}).times() {
		mayBeOff[t.Name] = t.Off
	}
	r := env.NewReader("sqlpool", prefix)
	r.Fill(into, mayBeOff)
	c := all()
	return r.Err(errors.Join(c.validate(), c.readFiles().err))
}
