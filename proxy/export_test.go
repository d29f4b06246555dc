package proxy

// AssumeHTTP1 has the proxy know an origin as one that speaks HTTP/1.1.
func (p *Proxy) AssumeHTTP1(authority string) { p.upstream.speak11.add(authority) }

// LearnNoOrigin has the proxy never know that, and so keeps the ordinary path off
// the pool.
func (p *Proxy) LearnNoOrigin() { p.upstream.speak11.due.Resize(0) }

// IsDraining tells whether all tunnels know that they have to end.
func (p *Proxy) IsDraining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

// WaitForHandlers waits until nothing is under way, of clients that have left.
func (p *Proxy) WaitForHandlers() { p.handlers.Wait() }
