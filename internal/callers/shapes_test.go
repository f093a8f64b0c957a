package callers_test

import (
	"bytes"
	"context"
	"iter"
	"reflect"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"text/template"
	"time"
)

// A shape is a way to get from one function to another. Each calls f once, and returns after it
// has.
type shape struct {
	name string
	call func(f func())
}

// shapes are the ways that Go has, with the frames that compiler and runtime put between.
var shapes = []shape{
	{"inlined", inlined},
	{"inlined thrice", func(f func()) { inlinedTwice(func() { inlined(f) }) }},
	{"recursion", func(f func()) { recur(5, f) }},
	{"much on the stack", much},
	{"generic int", func(f func()) { generic(1, f) }},
	{"generic struct", func(f func()) { generic(struct{ a, b string }{}, f) }},
	{"generic method", func(f func()) { (&box[string]{}).call(f) }},
	{"interface of a pointer", func(f func()) { through(&value{}, f) }},
	{"interface of a value", func(f func()) { through(value{}, f) }},
	{"promoted", func(f func()) { through(promoted{after: text}, f) }},
	{"promoted from a pointer", func(f func()) { through(promotedPointer{&value{}}, f) }},
	{"method value", func(f func()) { indirectly(value{}.call, f) }},
	{"method value of an interface", func(f func()) { var c caller = &value{}; indirectly(c.call, f) }},
	{"method expression", func(f func()) { indirectly(func(f func()) { (*value).call(&value{}, f) }, f) }},
	{"arguments on the stack", func(f func()) { manyArguments([30]int{}, "", f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) }},
	{"defer", func(f func()) { defer f() }},
	{"defer with arguments", func(f func()) { defer recur(1, f) }},
	{"defer in a loop", func(f func()) {
		for i := range 3 {
			defer func() {
				if i == 1 {
					f()
				}
			}()
		}
	}},
	{"a panic's deferred call", func(f func()) { defer func() { defer f(); _ = recover() }(); panic("x") }},
	{"before recover", func(f func()) { defer func() { f(); _ = recover() }(); panic("x") }},
	{"deferred by the one that panics in a deferred call", func(f func()) {
		defer func() { _ = recover() }()
		defer func() { defer f(); panic("y") }()
		panic("x")
	}},
	{"index out of range", func(f func()) { defer func() { f(); _ = recover() }(); recur(1, func() { nothing()[len(text)] = 1 }) }},
	{"after a fault", func(f func()) { faulting(); f() }},
	{"after a panic", func(f func()) { recovering(); f() }},
	{"reflect", func(f func()) { reflect.ValueOf(f).Call(nil) }},
	{"reflect, a method", func(f func()) {
		reflect.ValueOf(&Exported{}).MethodByName("Call").Call([]reflect.Value{reflect.ValueOf(f)})
	}},
	{"reflect, a method value", func(f func()) {
		call, _ := reflect.TypeAssert[func(func())](reflect.ValueOf(&Exported{}).MethodByName("Call"))
		call(f)
	}},
	{"reflect, a made function", func(f func()) {
		made := reflect.MakeFunc(reflect.TypeFor[func(int, string)](), func([]reflect.Value) []reflect.Value { f(); return nil })
		call, _ := reflect.TypeAssert[func(int, string)](made)
		call(1, "")
	}},
	{"a template", func(f func()) {
		t := template.Must(template.New("").Funcs(template.FuncMap{"f": func() string { f(); return "" }}).Parse("{{if true}}{{f}}{{end}}"))
		if err := t.Execute(new(bytes.Buffer), nil); err != nil {
			panic(err)
		}
	}},
	{"once", func(f func()) { new(sync.Once).Do(f) }},
	{"sync.OnceFunc", func(f func()) { sync.OnceFunc(f)() }},
	{"sorting", func(f func()) {
		once := sync.OnceFunc(f)
		sort.Slice([]int{2, 1}, func(int, int) bool { once(); return true })
	}},
	{"sorting, generic", func(f func()) {
		once := sync.OnceFunc(f)
		slices.SortFunc([]int{2, 1}, func(int, int) int { once(); return 1 })
	}},
	{"strings.Map", func(f func()) { _ = strings.Map(func(r rune) rune { f(); return r }, text[:1]) }},
	{"range over a function", func(f func()) {
		for range seq() {
			f()
		}
	}},
	{"range over a function, defer", func(f func()) {
		for range seq() {
			defer f()
		}
	}},
	{"goroutine", func(f func()) { within(func(done func()) { go func() { defer done(); f() }() }) }},
	{"goroutine with arguments", func(f func()) { within(func(done func()) { go both(f, done) }) }},
	{"goroutine that exits", func(f func()) {
		within(func(done func()) { go func() { defer done(); defer f(); runtime.Goexit() }() })
	}},
	{"coroutine", func(f func()) {
		next, stop := iter.Pull(func(yield func(int) bool) { f(); yield(1) })
		defer stop()
		next()
	}},
	{"locked to its thread", func(f func()) { runtime.LockOSThread(); defer runtime.UnlockOSThread(); f() }},
	{"timer", func(f func()) { within(func(done func()) { time.AfterFunc(0, func() { defer done(); f() }) }) }},
	{"context.AfterFunc", func(f func()) {
		within(func(done func()) {
			ctx, cancel := context.WithCancel(context.Background())
			context.AfterFunc(ctx, func() { defer done(); f() })
			cancel()
		})
	}},
}

func inlined(f func()) { f() }

func inlinedTwice(f func()) { inlined(func() { inlined(f) }) }

//go:noinline
func recur(n int, f func()) int {
	if n == 0 {
		f()
		return 0
	}
	return recur(n-1, f) + 1 // not a tail call
}

//go:noinline
func much(f func()) {
	var room [64 << 10]byte
	f()
	runtime.KeepAlive(&room)
}

//go:noinline
func generic[T any](v T, f func()) T { f(); return v }

type box[T any] struct{ v T }

//go:noinline
func (b *box[T]) call(f func()) { generic(b.v, f) }

type caller interface{ call(f func()) }

type value struct{ words [5]int }

//go:noinline
func (v value) call(f func()) { f(); v.words[0]++ }

type promoted struct {
	value

	after string
}

type promotedPointer struct{ *value }

// Exported is what reflect needs to find a method.
type Exported struct{}

// Call calls f.
//
//go:noinline
func (*Exported) Call(f func()) { f() }

//go:noinline
func through(c caller, f func()) { c.call(f) }

//go:noinline
func indirectly(call func(func()), f func()) { call(f) }

//go:noinline
func manyArguments(a [30]int, s string, f func(), b ...int) int {
	f()
	return a[0] + len(s) + len(b)
}

//go:noinline
func recovering() {
	defer func() { _ = recover() }()
	recur(3, func() { panic("x") })
}

//go:noinline
func faulting() {
	defer func() { _ = recover() }()
	recur(3, func() { noBox.v++ })
}

//go:noinline
func nothing() []int { return nil }

var (
	text  = "text"
	noBox *box[int]
)

func seq() iter.Seq[int] { return func(yield func(int) bool) { yield(1) } }

// within waits until what start starts has called done.
func within(start func(done func())) {
	done := make(chan struct{})
	start(func() { close(done) })
	<-done
}

//go:noinline
func both(f, g func()) { f(); g() }
