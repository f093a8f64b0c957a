// Package schema_test compares the JSON schema of package config with what config.Load accepts, by a
// validator of JSON schemas. It is a module of its own, so that the validator enters no other graph.
//
// The two agree but for these differences:
//
//   - Load also knows bounds of numbers, rules between keys, passwords, URLs and references. A file
//     that only breaks one of these passes the schema.
//   - Load reads a quoted number or flag as if it were not quoted, a number where a text belongs, and
//     words in any case, as FromEnv does. It trims texts of several lines. The schema accepts none of
//     this.
//   - Load refuses whole numbers that are not decimal, such as 0x10 and 1_000. To the schema all numbers
//     look alike.
package schema_test
