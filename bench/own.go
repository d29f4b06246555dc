package main

import (
	"context"
	"net"
	"runtime/metrics"
)

// own is a proxy that is this program in the role of that name.
type own string

func (role own) start(_ context.Context, b *bed) (*proxy, error) {
	var state ownState
	c, err := begin(string(role), ownTask{b.authority.pair, b.authority.Certificate, credential}, &state)
	if err != nil {
		return nil, err
	}
	r := b.route()
	r.Proxy = state.Address
	return &proxy{
		route: r, pid: c.cmd.Process.Pid, stop: c.end,
		mallocs: func() (float64, error) {
			err := c.ask(struct{}{}, &state)
			return float64(state.Mallocs), err
		},
	}, nil
}

// ownTask is what such a proxy is told.
type ownTask struct {
	Authority  pair   // the CA that it signs with
	Roots      string // of the origin
	Credential string // Authorization that it sets
}

// ownState is what it answers: where it is, and how many objects it has
// allocated.
type ownState struct {
	Address string
	Mallocs uint64
}

// ownRole begins to serve on loopback, and then says how it is as often as it is asked.
func ownRole(d dialogue, serve func(ownTask, net.Listener) error) error {
	var task ownTask
	if err := d.Decode(&task); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := serve(task, ln); err != nil {
		return err
	}
	state := func(struct{}) (ownState, error) {
		return ownState{Address: ln.Addr().String(), Mallocs: mallocs()}, nil
	}
	first, err := state(struct{}{})
	if err != nil {
		return err
	}
	if err := d.Encode(first); err != nil {
		return err
	}
	return ask(d, state)
}

// mallocs is how many objects this process has allocated.
func mallocs() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
