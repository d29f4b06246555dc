package oauth

import "container/heap"

// schedule is a heap of entries by due time. An entry knows its place.
type schedule []*entry

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due < s[j].due }

func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

// Push implements [heap.Interface].
func (s *schedule) Push(x any) {
	e := x.(*entry)
	e.place = len(*s)
	*s = append(*s, e)
}

// Pop implements [heap.Interface].
func (s *schedule) Pop() any {
	last := len(*s) - 1
	e := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	e.place = -1
	return e
}

// set puts an entry where its due time belongs; never takes it out.
func (s *schedule) set(e *entry, due instant) {
	e.due = due
	switch {
	case due == never && e.place >= 0:
		heap.Remove(s, e.place)
	case due == never:
	case e.place >= 0:
		heap.Fix(s, e.place)
	default:
		heap.Push(s, e)
	}
}

// next returns an entry that is due and takes it out, or nil.
func (s *schedule) next(now instant) *entry {
	if len(*s) == 0 || (*s)[0].due > now {
		return nil
	}
	return heap.Pop(s).(*entry)
}

// lanes queue flights, one lane for each provider host, so that a slow provider
// holds up nobody else and none is asked too much at once. One that has a host for
// each tenant is one provider all the same. Lanes take turns.
type lanes struct {
	max, maxPerHost int
	running         int
	byHost          map[string]*lane
	ready           [2][]*lane // those whose turn it is, by class
}

// The classes of flights.
const (
	urgent     = iota // somebody waits
	background        // nobody does
)

type lane struct {
	host    string
	running int
	waiting [2][]*flight // by class; those that have started are passed over
	inReady [2]bool
}

func newLanes(max, maxPerHost int) lanes {
	return lanes{max: max, maxPerHost: maxPerHost, byHost: map[string]*lane{}}
}

// add queues a flight. Adding it again as urgent lets it overtake.
func (l *lanes) add(f *flight, class int) {
	on := l.byHost[f.host]
	if on == nil {
		on = &lane{host: f.host}
		l.byHost[f.host] = on
	}
	on.waiting[class] = append(on.waiting[class], f)
	l.offer(on)
}

// offer lets a lane take its turn, where it has something to start. Without room
// it passes, and is offered again when a flight of its ends.
func (l *lanes) offer(on *lane) {
	for class := range on.waiting {
		if len(on.waiting[class]) > 0 && !on.inReady[class] {
			on.inReady[class] = true
			l.ready[class] = append(l.ready[class], on)
		}
	}
}

// start returns the next flight to start, or nil where there is none or no room.
func (l *lanes) start() *flight {
	for class := range l.ready {
		for len(l.ready[class]) > 0 && l.running < l.max {
			on := l.ready[class][0]
			l.ready[class][0] = nil
			l.ready[class] = l.ready[class][1:]
			on.inReady[class] = false
			if f := l.startOn(on, class); f != nil {
				return f
			}
		}
	}
	return nil
}

func (l *lanes) startOn(on *lane, class int) *flight {
	for on.running < l.maxPerHost && len(on.waiting[class]) > 0 {
		f := on.waiting[class][0]
		on.waiting[class][0] = nil
		on.waiting[class] = on.waiting[class][1:]
		if f.started {
			continue
		}
		f.started = true
		on.running++
		l.running++
		l.offer(on)
		return f
	}
	l.drop(on)
	return nil
}

// end gives back the room of a flight.
func (l *lanes) end(f *flight) {
	on := l.byHost[f.host]
	on.running--
	l.running--
	l.offer(on)
	l.drop(on)
}

// drop forgets a lane that is empty.
func (l *lanes) drop(on *lane) {
	if on.running == 0 && len(on.waiting[urgent]) == 0 && len(on.waiting[background]) == 0 && l.byHost[on.host] == on {
		delete(l.byHost, on.host)
	}
}

// clear returns all flights that have not started, and forgets them.
func (l *lanes) clear() []*flight {
	var all []*flight
	for _, on := range l.byHost {
		for class := range on.waiting {
			for _, f := range on.waiting[class] {
				if !f.started {
					f.started = true
					all = append(all, f)
				}
			}
			on.waiting[class] = nil
		}
	}
	return all
}
