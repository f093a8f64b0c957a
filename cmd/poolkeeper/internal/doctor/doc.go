// Package doctor asks servers of Redis, PostgreSQL and MySQL what they are, and says what to set
// for them in the configurations of poolkeeper's pools.
//
//	URL ──▶ Parse ──▶ Target ──▶ Examine ──▶ Server ──▶ Advise ──▶ []Finding
//	                                           └──▶ Report ──▶ WriteText, or JSON
//
// Advise is a pure function of what was found out. Nothing in a Report is a secret: of a URL it has
// the scheme, the host and the path. The package changes nothing on a server.
package doctor
