package main

import "time"

// workload is what load does through each of the variants.
type workload struct {
	name  string
	about string
	unit  string // what is counted
	work  work
	span  time.Duration // how long it is measured
	also  []string      // variants besides those of every workload
	only  []string      // where set: the only variants
}

// group is workloads that are measured together, in rounds: the same servers,
// one workload after the other, and in each one variant after the other.
type group struct {
	name      string
	rounds    int
	workloads []workload
}

func plan() []group {
	get := func(http2 bool, conns int) work { return work{Kind: getKind, HTTP2: http2, Workers: conns} }
	return []group{
		{name: "requests", rounds: 3, workloads: []workload{
			{name: "get-h1-64", about: "GET of 200 bytes, HTTP/1.1, 64 connections", unit: "request", work: get(false, 64), span: 1500 * time.Millisecond},
			{name: "get-h2-64", about: "GET of 200 bytes, HTTP/2, 64 connections", unit: "request", work: get(true, 64), span: 1500 * time.Millisecond},
		}},
		{name: "connections", rounds: 3, workloads: []workload{
			{name: "connect-full", about: "a new connection for each GET, full handshakes", unit: "connection", work: work{Kind: connectKind, Workers: 8}, span: 1500 * time.Millisecond},
			{name: "connect-resumed", about: "a new connection for each GET, resumed handshakes", unit: "connection", work: work{Kind: connectKind, Workers: 8, Resume: true}, span: 1500 * time.Millisecond},
		}},
	}
}
