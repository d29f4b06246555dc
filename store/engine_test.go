package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// engines are the implementations of engine. Each has to pass all of TestEngine.
var engines = map[string]func(t *testing.T) engine{
	"bbolt": func(t *testing.T) engine {
		path := filepath.Join(t.TempDir(), databaseFile)
		must(t, createBolt(t.Context(), path, func(w writer) error { return w.Put("seed", "key", []byte("value")) }))
		e, err := openBolt(path, false)
		must(t, err)
		return e
	},
}

func TestEngine(t *testing.T) {
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			for sentence, test := range engineContract {
				t.Run(sentence, func(t *testing.T) {
					e := open(t)
					t.Cleanup(func() {
						if err := e.Check(context.Background()); err != nil && !errors.Is(err, fs.ErrClosed) {
							t.Errorf("after the test: %v", err)
						}
						must(t, e.Close())
					})
					test(t, e)
				})
			}
		})
	}
}

var engineContract = map[string]func(*testing.T, engine){
	"what one transaction wrote the next one reads": func(t *testing.T, e engine) {
		put(t, e, "b", "k", "v")
		wantEntries(t, e, "b", "", "", "k=v")
	},
	"a transaction sees what it has written itself": func(t *testing.T, e engine) {
		must(t, e.Update(t.Context(), func(w writer) error {
			must(t, w.Put("b", "k", []byte("v")))
			if v, err := w.Get("b", "k"); err != nil || string(v) != "v" {
				t.Errorf("Get = %q, %v", v, err)
			}
			must(t, w.Delete("b", "k"))
			if v, err := w.Get("b", "k"); err != nil || v != nil {
				t.Errorf("after Delete Get = %q, %v", v, err)
			}
			return nil
		}))
	},
	"buckets are listed": func(t *testing.T, e engine) {
		put(t, e, "b", "k", "v")
		put(t, e, "a", "k", "v")
		must(t, e.View(t.Context(), func(r reader) error {
			got, err := r.Buckets()
			slices.Sort(got)
			if diff := cmp.Diff([]string{"a", "b", "seed"}, got); diff != "" {
				t.Error(diff)
			}
			return err
		}))
	},
	"an error undoes what the transaction wrote": func(t *testing.T, e engine) {
		put(t, e, "b", "k", "before")
		refusal := errors.New("refused")
		err := e.Update(t.Context(), func(w writer) error {
			must(t, w.Put("b", "k", []byte("after")))
			must(t, w.Put("b", "l", []byte("new")))
			must(t, w.Put("c", "m", []byte("new")))
			return refusal
		})
		wantError(t, err, refusal)
		wantEntries(t, e, "b", "", "", "k=before")
		wantEntries(t, e, "c", "", "")
	},
	"a panic undoes what the transaction wrote, and the next one runs": func(t *testing.T, e engine) {
		func() {
			defer func() {
				if recover() != "oops" {
					t.Error("the panic was swallowed")
				}
			}()
			_ = e.Update(t.Context(), func(w writer) error {
				must(t, w.Put("b", "k", []byte("v")))
				panic("oops")
			})
		}()
		wantEntries(t, e, "b", "", "")
		put(t, e, "b", "l", "v")
		wantEntries(t, e, "b", "", "", "l=v")
	},
	"a view sees one state, whatever is written meanwhile": func(t *testing.T, e engine) {
		put(t, e, "b", "k", "0")
		ctx, stop := context.WithCancel(t.Context())
		written := make(chan int)
		go func() {
			defer close(written)
			for i := 1; ctx.Err() == nil; i++ {
				if err := e.Update(t.Context(), func(w writer) error { return w.Put("b", "k", fmt.Append(nil, i)) }); err != nil {
					t.Error(err)
				}
				select {
				case written <- i:
				case <-ctx.Done():
				}
			}
		}()
		for range 50 {
			must(t, e.View(t.Context(), func(r reader) error {
				first, err := r.Get("b", "k")
				must(t, err)
				for range 100 {
					if again, err := r.Get("b", "k"); err != nil || !bytes.Equal(first, again) {
						t.Errorf("first %s, then %s, %v", first, again, err)
					}
				}
				return nil
			}))
			<-written
		}
		stop()
		for range written {
		}
	},
	"concurrent transactions are as if one came after the other": func(t *testing.T, e engine) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					err := e.Update(context.Background(), func(w writer) error {
						v, err := w.Get("b", "count")
						if err != nil {
							return err
						}
						return w.Put("b", "count", append(v, '|'))
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		wantEntries(t, e, "b", "", "", "count="+strings.Repeat("|", 40))
	},
	"listing is ordered by bytes, within the prefix, from beyond the cursor": func(t *testing.T, e engine) {
		for _, k := range []string{"a\x00z", "a", "b\x00", "a\x00B", "a\x00a", "a\x01", "é", "a\x00\xff"} {
			put(t, e, "b", k, "v")
		}
		wantEntries(t, e, "b", "", "", "a=v", "a\x00B=v", "a\x00a=v", "a\x00z=v", "a\x00\xff=v", "a\x01=v", "b\x00=v", "é=v")
		wantEntries(t, e, "b", "a\x00", "", "a\x00B=v", "a\x00a=v", "a\x00z=v", "a\x00\xff=v")
		wantEntries(t, e, "b", "a\x00", "a\x00a", "a\x00z=v", "a\x00\xff=v")
		wantEntries(t, e, "b", "a\x00", "a\x00b", "a\x00z=v", "a\x00\xff=v")
		wantEntries(t, e, "b", "a\x00", "a", "a\x00B=v", "a\x00a=v", "a\x00z=v", "a\x00\xff=v")
		wantEntries(t, e, "b", "a\x00", "a\x00\xff")
		wantEntries(t, e, "b", "a\x00", "b")
		wantEntries(t, e, "b", "c", "")
	},
	"a listing may be left early": func(t *testing.T, e engine) {
		put(t, e, "b", "k", "v")
		put(t, e, "b", "l", "v")
		must(t, e.View(t.Context(), func(r reader) error {
			for range r.List("b", "", "") {
				break
			}
			return nil
		}))
	},
	"what a transaction returned outlives it": func(t *testing.T, e engine) {
		put(t, e, "b", "k", "before")
		var got []byte
		var listed entry
		must(t, e.View(t.Context(), func(r reader) (err error) {
			got, err = r.Get("b", "k")
			for listed = range r.List("b", "", "") {
			}
			return err
		}))
		for i := range 100 {
			put(t, e, "b", "k", fmt.Sprint("after", i))
		}
		if string(got) != "before" || listed.Key != "k" || string(listed.Value) != "before" {
			t.Errorf("got %q and %q", got, listed)
		}
	},
	"large values come back whole": func(t *testing.T, e engine) {
		large := strings.Repeat("0123456789abcdef", 1<<14)
		put(t, e, "b", "k", large)
		wantEntries(t, e, "b", "", "", "k="+large)
	},
	"deleting what is not there is no error": func(t *testing.T, e engine) {
		must(t, e.Update(t.Context(), func(w writer) error {
			return errors.Join(w.Delete("b", "k"), w.Delete("seed", "k"))
		}))
	},
	"an empty key is refused": func(t *testing.T, e engine) {
		if err := e.Update(t.Context(), func(w writer) error { return w.Put("b", "", []byte("v")) }); err == nil {
			t.Error("no error")
		}
	},
	"an ended context starts nothing": func(t *testing.T, e engine) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantError(t, e.View(ctx, func(reader) error { t.Error("ran"); return nil }), context.Canceled)
		wantError(t, e.Update(ctx, func(writer) error { t.Error("ran"); return nil }), context.Canceled)
		wantError(t, e.Check(ctx), context.Canceled)
	},
	"a closed engine says that it is closed, and closes again": func(t *testing.T, e engine) {
		must(t, e.Close())
		wantError(t, e.View(t.Context(), func(reader) error { return nil }), fs.ErrClosed)
		wantError(t, e.Update(t.Context(), func(writer) error { return nil }), fs.ErrClosed)
		wantError(t, e.Check(t.Context()), fs.ErrClosed)
		if _, err := e.Size(); err == nil {
			t.Error("a closed engine has a size")
		}
	},
	"it grows": func(t *testing.T, e engine) {
		before, err := e.Size()
		must(t, err)
		put(t, e, "b", "k", strings.Repeat("x", 1<<20))
		if after, err := e.Size(); err != nil || after < before+1<<20 {
			t.Errorf("Size = %d, %v; before %d", after, err, before)
		}
	},
	"it agrees with a map": func(t *testing.T, e engine) {
		agreesWithMap(t, e)
	},
}

// agreesWithMap does the same at random to the engine and to a map.
func agreesWithMap(t *testing.T, e engine) {
	key := rapid.StringMatching(`[ab\x00]{1,3}`)
	rapid.Check(t, func(t *rapid.T) {
		model := map[string]string{}
		bucket := rapid.StringMatching(`[a-z]{8}`).Draw(t, "bucket")
		err := e.Update(context.Background(), func(w writer) error {
			for e := range w.List(bucket, "", "") { // left by an earlier round
				model[e.Key] = string(e.Value)
			}
			t.Repeat(map[string]func(*rapid.T){
				"put": func(t *rapid.T) {
					k, v := key.Draw(t, "key"), rapid.StringN(1, 50, -1).Draw(t, "value")
					model[k] = v
					if err := w.Put(bucket, k, []byte(v)); err != nil {
						t.Fatal(err)
					}
				},
				"delete": func(t *rapid.T) {
					k := key.Draw(t, "key")
					delete(model, k)
					if err := w.Delete(bucket, k); err != nil {
						t.Fatal(err)
					}
				},
				"list": func(t *rapid.T) {
					prefix := rapid.StringMatching(`[ab\x00]{0,2}`).Draw(t, "prefix")
					after := rapid.StringMatching(`[ab\x00]{0,3}`).Draw(t, "after")
					var want []string
					for _, k := range slices.Sorted(maps.Keys(model)) {
						if strings.HasPrefix(k, prefix) && (after == "" || k > after) {
							want = append(want, k+"="+model[k])
						}
					}
					if diff := cmp.Diff(want, entries(t, w, bucket, prefix, after)); diff != "" {
						t.Fatal(diff)
					}
				},
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = e.View(context.Background(), func(r reader) error {
			if got := entries(t, r, bucket, "", ""); len(got) != len(model) {
				t.Fatalf("%d entries committed, want %d", len(got), len(model))
			}
			return nil
		})
	})
}

func put(t *testing.T, e engine, bucket, key, value string) {
	t.Helper()
	must(t, e.Update(t.Context(), func(w writer) error { return w.Put(bucket, key, []byte(value)) }))
}

func wantEntries(t *testing.T, e engine, bucket, prefix, after string, want ...string) {
	t.Helper()
	must(t, e.View(t.Context(), func(r reader) error {
		t.Helper()
		if diff := cmp.Diff(want, entries(t, r, bucket, prefix, after)); diff != "" {
			t.Errorf("List(%q, %q, %q): %s", bucket, prefix, after, diff)
		}
		return nil
	}))
}

func entries(t interface{ Fatal(...any) }, r reader, bucket, prefix, after string) (got []string) {
	for e, err := range r.List(bucket, prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Key+"="+string(e.Value))
	}
	return got
}
