package policy

import (
	"maps"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestTrieIsAMap plays random changes to a trie and to a map, with hashes of
// which many are equal or differ late, and looks at every older trie again.
func TestTrieIsAMap(t *testing.T) {
	hashes := []uint64{0, 1, 1 << levelBits, 1 << 63, math.MaxUint64}
	rapid.Check(t, func(t *rapid.T) {
		var now trie[int, int]
		model := map[int]int{}
		type moment struct {
			trie  trie[int, int]
			model map[int]int
		}
		var past []moment
		b := new(batch)
		for i := range rapid.IntRange(1, 60).Draw(t, "changes") {
			key := rapid.IntRange(0, 14).Draw(t, "key")
			hash := hashes[key%len(hashes)]
			if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
				now = now.remove(b, hash, key)
				delete(model, key)
			} else {
				now = now.insert(b, &leaf[int, int]{hash: hash, key: key, value: i})
				model[key] = i
			}
			for key := range 15 {
				value, ok := now.lookup(hashes[key%len(hashes)], key)
				want, wantOK := model[key]
				if value != want || ok != wantOK {
					t.Fatalf("key %d is %d %v, want %d %v", key, value, ok, want, wantOK)
				}
			}
			// A batch ends where somebody looks at what it made.
			if rapid.Bool().Draw(t, "look") {
				past = append(past, moment{now, maps.Clone(model)})
				b = new(batch)
			}
		}
		for _, m := range append(past, moment{now, model}) {
			if got := maps.Collect(m.trie.all()); !maps.Equal(got, m.model) {
				t.Fatalf("the trie has %v, want %v", got, m.model)
			}
		}
	})
}

func TestAnEmptiedTrieIsTheZeroTrie(t *testing.T) {
	var full trie[string, int]
	for i, key := range []string{"a", "b", "c"} {
		full = full.with(new(batch), key, i)
	}
	empty := full.without(new(batch), "a").without(new(batch), "b").without(new(batch), "c").without(new(batch), "d")
	if empty != (trie[string, int]{}) {
		t.Errorf("what is left is %+v", empty.root)
	}
	for range full.all() {
		break // yields no more once it was told to stop
	}
	if _, ok := full.get("a"); !ok {
		t.Error("the full trie lost a key")
	}
}
