package statuspage

import (
	"cmp"
	"slices"
)

// layout places the nodes of a dependency graph in columns. Every arrow points to the right.
//
//	api ──▶ worker ──▶ orders
//	  └───────────────▶ cache
type layout struct {
	nodes  []spot     // one for each node
	routes [][]spot   // one for each edge: the spots it passes, both ends included
	width  float64    // columns
	height float64    // rows
	edges  [][2]int   // from and to
	alone  []int      // nodes without any edge, which stand nowhere
	layers [][]vertex // left to right
	dense  bool       // it has too many nodes to lead edges around them
}

// spot is a place: columns from the left, rows from the top.
type spot struct{ col, row float64 }

// vertex is a node, or the point at which a long edge passes a column.
type vertex struct {
	node   int // -1: a point of an edge
	before []int
	after  []int // positions of neighbours in the layers beside it
	row    float64
}

// maxRows bounds the height of a column. A graph that needs more is dense: its columns are split, and
// its edges go straight.
const maxRows = 12

// sweeps is how often the order within columns is improved, and pulls how often their rows are.
const (
	sweeps = 6
	pulls  = 30
)

// arrange places nodes, each with the nodes it depends on. Edges that close a cycle are left out.
func arrange(deps [][]int) *layout {
	deps = acyclic(deps)
	l := place(deps, false)
	if slices.ContainsFunc(l.layers, func(layer []vertex) bool { return len(layer) > maxRows }) {
		l = place(deps, true)
	}
	return l
}

func place(deps [][]int, dense bool) *layout {
	l := &layout{nodes: make([]spot, len(deps)), dense: dense}
	heights := chains(deps)
	linked := make([]bool, len(deps))
	top := 0
	for from, on := range deps {
		for _, to := range on {
			linked[from], linked[to] = true, true
			l.edges = append(l.edges, [2]int{from, to})
		}
		top = max(top, heights[from])
	}
	l.layers = make([][]vertex, top+1)
	at := make([]int, len(deps)) // the place of each node in its layer
	for n := range deps {
		if !linked[n] {
			l.alone = append(l.alone, n)
			continue
		}
		layer := top - heights[n]
		at[n] = len(l.layers[layer])
		l.layers[layer] = append(l.layers[layer], vertex{node: n})
	}
	bends := make([][]int, len(l.edges)) // positions in the layers between
	for i, e := range l.edges {
		from, to := top-heights[e[0]], top-heights[e[1]]
		if !dense || from+1 == to {
			bends[i] = l.connect(from, at[e[0]], to, at[e[1]])
		}
	}
	order := l.order()
	if !dense {
		l.settle(order)
	}
	l.locate(order)
	l.trace(bends, func(n int) int { return top - heights[n] })
	return l
}

// acyclic returns deps without repeated edges and without those that close a cycle.
func acyclic(deps [][]int) [][]int {
	out := make([][]int, len(deps))
	state := make([]uint8, len(deps)) // 1: entered, 2: left
	var visit func(n int)
	visit = func(n int) {
		state[n] = 1
		for _, to := range deps[n] {
			if state[to] == 1 || slices.Contains(out[n], to) {
				continue
			}
			out[n] = append(out[n], to)
			if state[to] == 0 {
				visit(to)
			}
		}
		state[n] = 2
	}
	for n := range deps {
		if state[n] == 0 {
			visit(n)
		}
	}
	return out
}

// chains returns the longest chain of edges from each node.
func chains(deps [][]int) []int {
	out := make([]int, len(deps))
	known := make([]bool, len(deps))
	var visit func(n int) int
	visit = func(n int) int {
		if !known[n] {
			known[n] = true
			for _, to := range deps[n] {
				out[n] = max(out[n], visit(to)+1)
			}
		}
		return out[n]
	}
	for n := range deps {
		visit(n)
	}
	return out
}

// connect joins two vertices by way of a new one in each layer between, whose positions it returns.
func (l *layout) connect(layer, from, last, to int) (between []int) {
	for layer+1 < last {
		next := len(l.layers[layer+1])
		l.layers[layer+1] = append(l.layers[layer+1], vertex{node: -1})
		l.join(layer, from, next)
		layer, from = layer+1, next
		between = append(between, next)
	}
	l.join(layer, from, to)
	return between
}

func (l *layout) join(layer, from, to int) {
	l.layers[layer][from].after = append(l.layers[layer][from].after, to)
	l.layers[layer+1][to].before = append(l.layers[layer+1][to].before, from)
}

// order sorts each layer by the mean rank of neighbours, to and fro, which leaves few crossings. It
// returns the positions of each layer from top to bottom.
func (l *layout) order() [][]int {
	order, rank := make([][]int, len(l.layers)), make([][]float64, len(l.layers))
	for i, layer := range l.layers {
		order[i], rank[i] = make([]int, len(layer)), make([]float64, len(layer))
		for p := range layer {
			order[i][p], rank[i][p] = p, float64(p)
		}
	}
	sort := func(i int, neighbours func(v *vertex) ([]int, []float64)) {
		mean := make([]float64, len(order[i]))
		for p := range mean {
			mean[p] = average(rank[i][p], neighbours, &l.layers[i][p])
		}
		slices.SortStableFunc(order[i], func(a, b int) int { return cmp.Compare(mean[a], mean[b]) })
		for at, p := range order[i] {
			rank[i][p] = float64(at)
		}
	}
	for range sweeps {
		for i := 1; i < len(order); i++ {
			sort(i, func(v *vertex) ([]int, []float64) { return v.before, rank[i-1] })
		}
		for i := len(order) - 2; i >= 0; i-- {
			sort(i, func(v *vertex) ([]int, []float64) { return v.after, rank[i+1] })
		}
	}
	return order
}

// average is the mean of the values of v's neighbours, or own if it has none.
func average(own float64, neighbours func(v *vertex) ([]int, []float64), v *vertex) float64 {
	ids, values := neighbours(v)
	if len(ids) == 0 {
		return own
	}
	sum := 0.0
	for _, id := range ids {
		sum += values[id]
	}
	return sum / float64(len(ids))
}

// settle gives each vertex a row near those of its neighbours, at least one row from the next.
func (l *layout) settle(order [][]int) {
	for i, layer := range l.layers {
		for at, p := range order[i] {
			layer[p].row = float64(at)
		}
	}
	for range pulls {
		for i := range l.layers {
			l.pull(i, order[i])
		}
		for i := range l.layers {
			back := len(l.layers) - 1 - i
			l.pull(back, order[back])
		}
	}
	least := 0.0
	for _, layer := range l.layers {
		for _, v := range layer {
			least = min(least, v.row)
		}
	}
	for _, layer := range l.layers {
		for p := range layer {
			layer[p].row -= least
		}
	}
}

// pull moves the vertices of a layer towards the mean row of their neighbours, and then apart.
func (l *layout) pull(i int, order []int) {
	layer := l.layers[i]
	wish := make([]float64, len(order))
	for at, p := range order {
		v := &layer[p]
		sum := 0.0
		for _, id := range v.before {
			sum += l.layers[i-1][id].row
		}
		for _, id := range v.after {
			sum += l.layers[i+1][id].row
		}
		wish[at] = v.row
		if n := len(v.before) + len(v.after); n > 0 {
			wish[at] = sum / float64(n)
		}
	}
	for at, row := range apart(wish) {
		layer[order[at]].row = row
	}
}

// apart returns rows in the same order, at least 1 from one another, as near to the wishes as least
// squares: it merges neighbours that collide into blocks, as in isotonic regression.
func apart(wish []float64) []float64 {
	type block struct {
		sum   float64 // of wishes less the offsets in the block
		n     int
		start float64
	}
	var blocks []block
	for i, w := range wish {
		b := block{sum: w - float64(i), n: 1}
		b.start = b.sum
		for len(blocks) > 0 && blocks[len(blocks)-1].start >= b.start {
			last := blocks[len(blocks)-1]
			blocks = blocks[:len(blocks)-1]
			b.sum, b.n = b.sum+last.sum, b.n+last.n
			b.start = b.sum / float64(b.n)
		}
		blocks = append(blocks, b)
	}
	out := make([]float64, 0, len(wish))
	for _, b := range blocks {
		for range b.n {
			out = append(out, b.start+float64(len(out)))
		}
	}
	return out
}

// locate turns layers into columns: in a dense graph, a layer with too many rows takes several.
func (l *layout) locate(order [][]int) {
	shape := func(layer []vertex) (columns, rows int) {
		columns = max((len(layer)+maxRows-1)/maxRows, 1)
		return columns, (len(layer) + columns - 1) / columns
	}
	most := 0
	for _, layer := range l.layers {
		_, rows := shape(layer)
		most = max(most, rows)
	}
	col := 0.0
	for i, layer := range l.layers {
		columns, rows := shape(layer)
		for at, p := range order[i] {
			v := &layer[p]
			if l.dense {
				v.row = float64(at%rows) + float64(most-rows)/2
			}
			if v.node >= 0 {
				l.nodes[v.node] = spot{col + float64(at/rows), v.row}
			}
			l.height = max(l.height, v.row+1)
		}
		col += float64(columns)
	}
	if len(l.edges) > 0 {
		l.width = col
	}
}

// trace says which spots each edge passes.
func (l *layout) trace(bends [][]int, layerOf func(n int) int) {
	for i, e := range l.edges {
		route := []spot{l.nodes[e[0]]}
		for k, p := range bends[i] {
			at := layerOf(e[0]) + 1 + k // not dense: one column for each layer
			route = append(route, spot{float64(at), l.layers[at][p].row})
		}
		l.routes = append(l.routes, append(route, l.nodes[e[1]]))
	}
}
