package admin

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"time"

	"attache"
)

const (
	// shownEvents is how many events a page shows. It looks for them among the
	// last maxRecent.
	shownEvents = 100
	// liveEvery is how often an open page is brought up to date at most. Then it
	// gets all rows anew: what it shows is right whatever it missed, and a
	// thousand requests a second cost it no more than one.
	liveEvery = time.Second
)

// eventsData is a list of events.
type eventsData struct {
	Denied bool // those that were denied alone
	Events []attache.Event
	Limit  int
}

func deniedAlone(r *http.Request) bool { return r.URL.Query().Get("decision") == string(attache.Deny) }

func (u *ui) showEvents(r *http.Request) (page, error) {
	data := eventsData{Denied: deniedAlone(r), Limit: shownEvents}
	data.Events = u.eventsShown(u.Events.recent(maxRecent), data.Denied)
	return page{name: "events", Title: "Events", Data: data}, nil
}

// eventsShown are those of the recent events that a page shows.
func (u *ui) eventsShown(recent []attache.Event, denied bool) []attache.Event {
	var shown []attache.Event
	for _, e := range recent {
		if len(shown) < shownEvents && (!denied || e.Decision == attache.Deny) {
			shown = append(shown, e)
		}
	}
	return shown
}

// sessionEnded ends a stream for good: without it the page would ask again and
// again.
const sessionEnded = "event: ended\ndata: You are no longer signed in. <a href=\"/sign-in\">Sign in</a> to see newer events.\n\n"

var errSessionEnded = errors.New("the session has ended")

// streamEvents keeps the rows of an open page up to date.
func (u *ui) streamEvents(w http.ResponseWriter, r *http.Request) {
	c, err := u.visitor(r)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	if c == (caller{}) {
		w.Header().Set("Content-Type", streamType)
		_ = push(w, sessionEnded) // the client may have gone
		return
	}
	select {
	case u.streams <- struct{}{}:
	default:
		u.fail(w, r, fail(attache.CodeOverloaded, tooManyStream).with("Retry-After", "15"))
		return
	}
	defer func() { <-u.streams }()
	_ = u.followRows(w, r) // every error is the client's going, or the session's end
}

// followRows sends the rows when they have changed, the first time at once: the
// page was made before anybody listened for what happens. It ends with the
// session, which looking at events does not prolong.
func (u *ui) followRows(w http.ResponseWriter, r *http.Request) error {
	var newest, shown string
	var due time.Time
	denied := deniedAlone(r)
	return u.stream(w, r, func(e *attache.Event, _ uint64) error {
		if e == nil {
			if c, err := u.visitor(r); err != nil || c == (caller{}) {
				return errors.Join(errSessionEnded, err, push(w, sessionEnded))
			}
		} else if latest := u.Events.recent(1); len(latest) == 0 || latest[0].ID == newest {
			return nil // none is kept, or it was among those sent before
		} else if !u.wait(r, due) {
			return nil // follow sees why
		}
		recent := u.Events.recent(maxRecent)
		if len(recent) > 0 {
			newest = recent[0].ID
		}
		rows, err := u.rows(eventsData{Denied: denied, Events: u.eventsShown(recent, denied), Limit: shownEvents})
		if err != nil {
			return err
		}
		if rows == shown {
			return push(w, ": heartbeat\n\n")
		}
		shown, due = rows, time.Now().Add(liveEvery)
		return push(w, message("rows", rows))
	})
}

// wait waits until a time, and reports whether the stream goes on then.
func (u *ui) wait(r *http.Request, until time.Time) bool {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
	case <-u.Done:
	}
	return false
}

// rows are the rows of a table of events.
func (u *ui) rows(data eventsData) (string, error) {
	var out bytes.Buffer
	err := u.pages["events"].ExecuteTemplate(&out, "rows", data)
	return out.String(), err
}

// message is a server-sent event whose data is HTML. Nothing in it can end a line
// of the stream: line ends mean nothing in HTML, and each begins a line of data.
func message(kind, html string) string {
	var b strings.Builder
	b.WriteString("event: " + kind + "\n")
	for line := range strings.FieldsFuncSeq(html, func(c rune) bool { return c == '\n' || c == '\r' }) {
		b.WriteString("data: " + line + "\n")
	}
	return b.String() + "\n"
}
