package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file, version 2. Numbers are in the machine's order.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHead    = 16 // id uint64, flags uint16, count uint16, overflow uint32
	metaSize    = 64 // the last 8 are the FNV-1a hash of those before
	elementSize = 16 // branch: pos, ksize uint32, child uint64; leaf: flags, pos, ksize, vsize uint32

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10

	bucketElement = 0x01 // flag of a leaf element whose value is a bucket

	noFreelist = 1<<64 - 1
)

// verifyPages reads the structure of a bbolt file as bbolt will, but with every
// offset checked and without mapping it: that each page is what its parent takes
// it for, lies inside the file, is used once or is free, that keys are in order,
// and that elements lie one behind the other without a gap, as bbolt writes
// them: else a lower count would hide the last ones. Values it leaves to their
// seals. The buckets must not be nested: ours are not.
//
// Both meta pages must be sound. bbolt would go on with one, and lose the last
// commit without a word if it is the newer that is damaged; a refresh token
// that was rotated in it would be gone.
func verifyPages(r io.ReaderAt, size int64) error {
	m, err := readMeta(r, size)
	if err != nil {
		return err
	}
	v := &verifier{r: r, meta: m, used: make([]bool, m.pages)}
	v.used[0], v.used[1] = true, true
	if err := v.tree(m.root, v.rootBucket); err != nil {
		return err
	}
	if m.freelist == noFreelist {
		return nil // bbolt takes for free what is not used
	}
	if err := v.freelist(); err != nil {
		return err
	}
	for id, used := range v.used {
		if !used {
			return damaged(fmt.Sprintf("page %d is neither used nor free", id))
		}
	}
	return nil
}

type meta struct {
	pageSize              int64
	root, freelist, pages uint64 // page numbers; pages is the first beyond the last
	transaction           uint64
}

// readMeta returns the newer meta page.
func readMeta(r io.ReaderAt, size int64) (meta, error) {
	first, err := parseMeta(r, 0, 0)
	if err != nil {
		return meta{}, err
	}
	second, err := parseMeta(r, 1, first.pageSize)
	if err != nil {
		return meta{}, err
	}
	if second.pageSize != first.pageSize {
		return meta{}, damaged("the meta pages differ in the size of a page")
	}
	newer := first
	if second.transaction > first.transaction {
		newer = second
	}
	switch n := newer.pages; {
	case n < 4 || n > uint64(size/newer.pageSize):
		return meta{}, damaged(fmt.Sprintf("%d pages of %d bytes do not fit in a file of %d bytes: it was cut short", n, newer.pageSize, size))
	case newer.freelist >= n && newer.freelist != noFreelist:
		return meta{}, damaged("the free list lies outside the file")
	}
	return newer, nil
}

func parseMeta(r io.ReaderAt, id uint64, at int64) (meta, error) {
	var b [pageHead + metaSize]byte
	if _, err := r.ReadAt(b[:], at); err != nil && err != io.EOF {
		return meta{}, err
	} else if err == io.EOF {
		return meta{}, damaged("a meta page is missing: the file was cut short")
	}
	num := binary.NativeEndian
	p := b[pageHead:]
	sum := fnv.New64a()
	_, _ = sum.Write(p[:metaSize-8])
	m := meta{
		pageSize:    int64(num.Uint32(p[8:])),
		root:        num.Uint64(p[16:]),
		freelist:    num.Uint64(p[32:]),
		pages:       num.Uint64(p[40:]),
		transaction: num.Uint64(p[48:]),
	}
	switch {
	case num.Uint32(p) != boltMagic || num.Uint32(p[4:]) != boltVersion,
		num.Uint64(p[metaSize-8:]) != sum.Sum64(),
		num.Uint64(b[:]) != id || num.Uint16(b[8:]) != metaPage,
		m.pageSize < 1<<10 || m.pageSize > 1<<24 || m.pageSize&(m.pageSize-1) != 0:
		return meta{}, damaged(fmt.Sprintf("meta page %d is not sound", id))
	}
	return m, nil
}

type verifier struct {
	r    io.ReaderAt
	meta meta
	used []bool // pages that were met
	// spare are buffers of one page that nobody looks at any more: there are as many
	// as the tree is deep, where otherwise each page would have its own.
	spare [][]byte
}

// A page is one in memory, with those that it overflows into.
type page struct {
	id    uint64
	flags uint16
	count int
	data  []byte // with the head
}

// page reads a page and takes it: nobody else may use it.
func (v *verifier) page(id uint64) (page, error) {
	if id >= v.meta.pages {
		return page{}, damaged(fmt.Sprintf("page %d lies outside the file", id))
	}
	data := v.buffer()
	if _, err := v.r.ReadAt(data, int64(id)*v.meta.pageSize); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	num := binary.NativeEndian
	overflow := uint64(num.Uint32(data[12:]))
	if num.Uint64(data) != id || overflow >= v.meta.pages-id {
		return page{}, damaged(fmt.Sprintf("page %d is another page", id))
	}
	for i := id; i <= id+overflow; i++ {
		if err := v.use(i); err != nil {
			return page{}, err
		}
	}
	if overflow > 0 {
		more := make([]byte, int64(overflow)*v.meta.pageSize)
		if _, err := v.r.ReadAt(more, int64(id+1)*v.meta.pageSize); err != nil {
			return page{}, fmt.Errorf("page %d: %w", id, err)
		}
		data = append(data, more...)
	}
	return page{
		id:    id,
		flags: num.Uint16(data[8:]),
		count: int(num.Uint16(data[10:])),
		data:  data,
	}, nil
}

// buffer has room for one page.
func (v *verifier) buffer() []byte {
	if n := len(v.spare); n > 0 {
		b := v.spare[n-1]
		v.spare = v.spare[:n-1]
		return b
	}
	return make([]byte, v.meta.pageSize)
}

// release lets a page's buffer be another's. Nothing of the page may be in use.
func (v *verifier) release(p page) {
	if int64(len(p.data)) == v.meta.pageSize {
		v.spare = append(v.spare, p.data)
	}
}

func (v *verifier) use(id uint64) error {
	if v.used[id] {
		return damaged(fmt.Sprintf("page %d is used twice", id))
	}
	v.used[id] = true
	return nil
}

// tree walks the B+tree below a page; leaf is called for each element in it.
func (v *verifier) tree(root uint64, leaf func(element) error) error {
	return v.subtree(root, nil, nil, leaf)
}

// subtree walks pages whose keys must be at least low, and less than high where
// that is not nil.
func (v *verifier) subtree(id uint64, low, high []byte, leaf func(element) error) error {
	p, err := v.page(id)
	if err != nil {
		return err
	}
	defer v.release(p)
	if p.count == 0 { // bbolt keeps an empty bucket in its parent
		return p.damaged("is empty")
	}
	switch p.flags {
	case leafPage:
		_, err := p.each(low, high, leaf)
		return err
	case branchPage:
		var before *element
		descend := func(before *element, high []byte) error {
			return v.subtree(before.child, before.key, high, leaf)
		}
		_, err := p.each(low, high, func(e element) error {
			if before != nil {
				if err := descend(before, e.key); err != nil {
					return err
				}
			}
			before = &e
			return nil
		})
		if err != nil {
			return err
		}
		return descend(before, high)
	default:
		return p.damaged("is neither branch nor leaf")
	}
}

// An element is an entry of a page: a child in a branch, a value in a leaf.
type element struct {
	key    []byte
	child  uint64
	value  []byte
	bucket bool
}

// each calls fn for the page's elements, whose keys must ascend from low to
// below high. It returns where the last one ends.
func (p page) each(low, high []byte, fn func(element) error) (end uint64, err error) {
	var last []byte
	end = uint64(pageHead + p.count*elementSize)
	for i := range p.count {
		e, next, err := p.element(i, end)
		if err != nil {
			return 0, err
		}
		if i == 0 && bytes.Compare(e.key, low) < 0 ||
			i > 0 && bytes.Compare(e.key, last) <= 0 ||
			high != nil && bytes.Compare(e.key, high) >= 0 {
			return 0, p.damaged("has keys out of order")
		}
		last, end = e.key, next
		if err := fn(e); err != nil {
			return 0, err
		}
	}
	return end, nil
}

// element reads the head of an element, and what must begin at start. It returns
// where that ends.
func (p page) element(i int, start uint64) (e element, end uint64, err error) {
	at, size := uint64(pageHead+i*elementSize), uint64(len(p.data))
	if at+elementSize > size {
		return element{}, 0, p.damaged("has more elements than room")
	}
	num, b := binary.NativeEndian, p.data[at:]
	var pos, keySize, valueSize uint64
	var flags uint32
	if p.flags == branchPage {
		pos, keySize = uint64(num.Uint32(b)), uint64(num.Uint32(b[4:]))
		e.child = num.Uint64(b[8:])
	} else {
		flags = num.Uint32(b)
		pos, keySize = uint64(num.Uint32(b[4:])), uint64(num.Uint32(b[8:]))
		valueSize = uint64(num.Uint32(b[12:]))
	}
	middle := start + keySize
	end = middle + valueSize
	if at+pos != start || keySize == 0 || end > size || flags > bucketElement {
		return element{}, 0, p.damaged("has an element that is not where it should be")
	}
	e.key, e.value, e.bucket = p.data[start:middle], p.data[middle:end], flags == bucketElement
	return e, end, nil
}

func (p page) damaged(how string) error {
	return damaged(fmt.Sprintf("page %d %s", p.id, how))
}

// rootBucket follows an element of the root, which is a bucket: a root page of
// its own, or where that is 0 a page inside the value.
func (v *verifier) rootBucket(e element) error {
	const bucketHead = 16 // root uint64, sequence uint64
	if !e.bucket || len(e.value) < bucketHead {
		return damaged("there is something beside the buckets")
	}
	if root := binary.NativeEndian.Uint64(e.value); root != 0 {
		return v.tree(root, flatElement)
	}
	b := e.value[bucketHead:]
	if len(b) < pageHead {
		return damaged("a bucket is cut short")
	}
	inline := page{
		flags: binary.NativeEndian.Uint16(b[8:]),
		count: int(binary.NativeEndian.Uint16(b[10:])),
		data:  b,
	}
	if inline.flags != leafPage {
		return damaged("a bucket is none")
	}
	if end, err := inline.each(nil, nil, flatElement); err != nil {
		return err
	} else if end != uint64(len(b)) {
		return damaged("a bucket is not as long as what is in it")
	}
	return nil
}

func flatElement(e element) error {
	if e.bucket {
		return damaged("there is a bucket in a bucket")
	}
	return nil
}

func (v *verifier) freelist() error {
	p, err := v.page(v.meta.freelist)
	if err != nil {
		return err
	}
	if p.flags != freelistPage {
		return p.damaged("is not the free list")
	}
	num, ids := binary.NativeEndian, p.data[pageHead:]
	count := uint64(p.count)
	if count == 0xFFFF { // too many for the head: the list begins with their number
		count, ids = num.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return p.damaged("lists more free pages than it has room for")
	}
	for i := range count {
		id := num.Uint64(ids[i*8:])
		if id >= v.meta.pages {
			return p.damaged("lists a page outside the file")
		}
		if err := v.use(id); err != nil {
			return err
		}
	}
	return nil
}
