// Package schema_test compares the JSON schema of package config with config.Load. It uses a validator of
// JSON schemas, and is a module of its own to keep the validator out of other module graphs.
//
// The two agree except for these differences:
//
//   - Load also knows bounds of numbers, rules between keys, passwords, URLs and references. A file
//     that breaks only such a rule passes the schema.
//   - Load reads a quoted number or flag as if it were not quoted, a number where a text belongs, and
//     words in any case, as FromEnv does. It trims texts of several lines. The schema accepts none of
//     this.
//   - Load refuses whole numbers that are not decimal, such as 0x10 and 1_000. To the schema all numbers
//     look alike.
package schema_test
