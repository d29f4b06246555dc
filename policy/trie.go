package policy

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// trie is a persistent map: a change makes a new trie that shares all but one
// path with the old one, so it costs the same whatever the size, and readers of
// the old one never notice. It is a hash array mapped trie (Bagwell, 2001) with
// 32 slots to a node. The zero trie is empty.
//
// Many changes at once share a [batch]: what a batch has copied, it alone can
// see, and changes in place from then on.
type trie[K comparable, V any] struct{ root *node[K, V] }

// batch is the identity of one run of changes. It has a size, for otherwise all
// batches would be at one address.
type batch struct{ _ byte }

type node[K comparable, V any] struct {
	owner *batch
	used  uint32       // bit i: slot i is in slots
	slots []slot[K, V] // in the order of their bits
}

// slot holds a node below, or else a leaf.
type slot[K comparable, V any] struct {
	below *node[K, V]
	leaf  *leaf[K, V]
}

// leaf is immutable. Keys whose whole hash is the same form a chain.
type leaf[K comparable, V any] struct {
	hash  uint64
	key   K
	value V
	next  *leaf[K, V]
}

// levelBits of the hash choose the slot at each level.
const levelBits = 5

// seed makes hashes of this process unforeseeable, so that nobody can choose
// names that collide.
var seed = maphash.MakeSeed()

// The methods that take a hash exist for tests of what happens when hashes
// collide.

func (t trie[K, V]) get(key K) (V, bool) { return t.lookup(maphash.Comparable(seed, key), key) }

// with is t with the value at the key.
func (t trie[K, V]) with(b *batch, key K, value V) trie[K, V] {
	return t.insert(b, &leaf[K, V]{hash: maphash.Comparable(seed, key), key: key, value: value})
}

// without is t without the key.
func (t trie[K, V]) without(b *batch, key K) trie[K, V] {
	return t.remove(b, maphash.Comparable(seed, key), key)
}

func (t trie[K, V]) lookup(hash uint64, key K) (V, bool) {
	for n, h := t.root, hash; n != nil; h >>= levelBits {
		at, bit := n.find(h)
		if n.used&bit == 0 {
			break
		}
		s := &n.slots[at]
		for l := s.leaf; l != nil; l = l.next {
			if l.key == key {
				return l.value, true
			}
		}
		n = s.below
	}
	var zero V
	return zero, false
}

func (t trie[K, V]) insert(b *batch, l *leaf[K, V]) trie[K, V] {
	root := t.root
	if root == nil {
		root = &node[K, V]{owner: b}
	}
	return trie[K, V]{root.insert(b, l, 0)}
}

func (t trie[K, V]) remove(b *batch, hash uint64, key K) trie[K, V] {
	if _, ok := t.lookup(hash, key); !ok {
		return t
	}
	root := t.root.remove(b, hash, key, 0)
	if root.used == 0 {
		root = nil
	}
	return trie[K, V]{root}
}

// all yields what is in the trie, in no order.
func (t trie[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.root != nil {
			t.root.each(yield)
		}
	}
}

// find returns the bit of the slot that the hash chooses, and the slot's place.
func (n *node[K, V]) find(h uint64) (at int, bit uint32) {
	bit = 1 << (h & (1<<levelBits - 1))
	return bits.OnesCount32(n.used & (bit - 1)), bit
}

// editable is n itself if the batch has made it, and a copy if not.
func (n *node[K, V]) editable(b *batch) *node[K, V] {
	if n.owner == b {
		return n
	}
	return &node[K, V]{owner: b, used: n.used, slots: slices.Clone(n.slots)}
}

func (n *node[K, V]) insert(b *batch, l *leaf[K, V], shift int) *node[K, V] {
	n = n.editable(b)
	at, bit := n.find(l.hash >> shift)
	if n.used&bit == 0 {
		n.used |= bit
		n.slots = slices.Insert(n.slots, at, slot[K, V]{leaf: l})
		return n
	}
	s := &n.slots[at]
	switch {
	case s.below != nil:
		s.below = s.below.insert(b, l, shift+levelBits)
	case s.leaf.hash == l.hash:
		l.next = s.leaf.without(l.key)
		s.leaf = l
	default:
		below := &node[K, V]{owner: b}
		below = below.insert(b, s.leaf, shift+levelBits)
		*s = slot[K, V]{below: below.insert(b, l, shift+levelBits)}
	}
	return n
}

// remove takes out a key that is there.
func (n *node[K, V]) remove(b *batch, hash uint64, key K, shift int) *node[K, V] {
	n = n.editable(b)
	at, bit := n.find(hash >> shift)
	s := &n.slots[at]
	if s.below != nil {
		s.below = s.below.remove(b, hash, key, shift+levelBits)
		if len(s.below.slots) == 1 && s.below.slots[0].leaf != nil {
			*s = s.below.slots[0]
		}
		return n
	}
	if s.leaf = s.leaf.without(key); s.leaf == nil {
		n.used &^= bit
		n.slots = slices.Delete(n.slots, at, at+1)
	}
	return n
}

// without is the chain without the key.
func (l *leaf[K, V]) without(key K) *leaf[K, V] {
	switch {
	case l == nil:
		return nil
	case l.key == key:
		return l.next
	}
	return &leaf[K, V]{l.hash, l.key, l.value, l.next.without(key)}
}

func (n *node[K, V]) each(yield func(K, V) bool) bool {
	for _, s := range n.slots {
		if s.below != nil && !s.below.each(yield) {
			return false
		}
		for l := s.leaf; l != nil; l = l.next {
			if !yield(l.key, l.value) {
				return false
			}
		}
	}
	return true
}
