package holders_test

// orm calls f through n frames of what looks like another module.
/*line /go/pkg/mod/example.com/orm@v1.2.3/orm.go:1:1*/
func orm(n int, f func()) int {
	if n == 0 {
		f()
		return 0
	}
	return orm(n-1, f) + 1 // not a tail call
}

// ormWork returns what holds e and closes done; all its frames are the other module's.
func ormWork[E any](hold func(e E, kind string), e E, done chan<- struct{}) func() {
	return func() {
		defer close(done)
		orm(2, func() { hold(e, "conn") })
	}
}
