// Package doctor examines Redis, PostgreSQL and MySQL servers, and advises which settings of
// poolkeeper's pools to change.
//
//	URL ──▶ Parse ──▶ Target ──▶ Examine ──▶ Server ──▶ Advise ──▶ []Finding
//	                                           └──▶ Report ──▶ WriteText, or JSON
//
// Advise is a pure function of the Server. A Report holds no secret: of a URL it has the scheme, the
// host and the path. The package changes nothing on a server.
package doctor
