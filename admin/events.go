package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"attache"
)

// EventSource is where the API learns what happened. [EventsFrom] makes one.
type EventSource struct {
	recent func(limit int) []attache.Event
	// follow calls each for what happens from now on, and with nil at once and
	// whenever a heartbeat is due, until it fails, ctx ends or done is closed.
	follow func(ctx context.Context, done <-chan struct{}, each func(e *attache.Event, missed uint64) error) error
}

// EventsFrom adapts a ring of events: recent returns at most limit events, newest
// first; subscribe delivers what happens until ctx ends, and then closes its
// channel; open takes a delivery apart into the event and how many the reader
// missed before it. It fits audit.Ring, which this package does not import.
func EventsFrom[D any](
	recent func(limit int) []attache.Event,
	subscribe func(ctx context.Context) <-chan D,
	open func(D) (e attache.Event, missed uint64),
) EventSource {
	return EventSource{recent, func(ctx context.Context, done <-chan struct{}, each func(*attache.Event, uint64) error) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		deliveries := subscribe(ctx)
		heartbeat := time.NewTicker(heartbeatEvery)
		defer heartbeat.Stop()
		err := each(nil, 0)
		for err == nil {
			select {
			case d, ok := <-deliveries:
				if !ok {
					return ctx.Err()
				}
				e, missed := open(d)
				err = each(&e, missed)
			case <-heartbeat.C:
				err = each(nil, 0)
			case <-done:
				return nil
			}
		}
		return err
	}}
}

const (
	heartbeatEvery = 15 * time.Second
	// writeTimeout is how long a client may take to read what it is sent.
	writeTimeout  = 10 * time.Second
	streamType    = "text/event-stream"
	maxRecent     = 1000
	tooManyStream = "There are as many event streams as the server serves at once: end one, or ask without Accept: text/event-stream."
)

// EventsQuery asks for events.
type EventsQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many recent events at most; a stream begins with none."`
	Accept string `header:"Accept" hidden:"true"`
}

// EventList is what happened last.
type EventList struct {
	Events []attache.Event `json:"events" nullable:"false" doc:"Newest first."`
}

func (a *API) events(api huma.API) {
	schemas := api.OpenAPI().Components.Schemas
	rt := route{
		method: http.MethodGet, path: "/events", id: "list-events", tag: "observation", role: attache.RoleViewer,
		summary: "Show or follow events",
		text: "Lists recent events, one for each CONNECT and request. With Accept: text/event-stream it follows them " +
			"instead: each message's data is an event; comments come as heartbeats every 15 seconds; a message of the " +
			"type missed says how many events a slow reader lost. A stream ends with its admin token.",
		errors: []int{http.StatusServiceUnavailable},
	}
	register(a, api, rt, a.showEvents)
	op := api.OpenAPI().Paths[rt.path].Get
	op.Responses["200"] = &huma.Response{Description: "Recent events, or a stream of them.", Content: map[string]*huma.MediaType{
		"application/json": {Schema: schemas.Schema(reflect.TypeFor[EventList](), true, "")},
		streamType:         {Schema: &huma.Schema{Type: huma.TypeString, Description: "Server-sent events (WHATWG HTML)."}},
	}}
}

func (a *API) showEvents(_ context.Context, in *EventsQuery) (*huma.StreamResponse, error) {
	if !strings.Contains(in.Accept, streamType) {
		list := EventList{append([]attache.Event{}, a.Events.recent(min(in.Limit, maxRecent))...)}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			hc.SetHeader("Content-Type", "application/json")
			_ = json.NewEncoder(hc.BodyWriter()).Encode(list) // the client may have gone
		}}, nil
	}
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, fail(attache.CodeOverloaded, tooManyStream).with("Retry-After", "15")
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer func() { <-a.streams }()
		r, w := humago.Unwrap(hc)
		_ = a.follow(w, r) // every error is the client's going, or its token's end
	}}, nil
}

var errTokenEnded = errors.New("the admin token has been revoked or has expired")

// follow sends events until the client goes or the server shuts down, or a
// heartbeat finds that the client's token is not good any more.
func (a *API) follow(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	c, _ := ctx.Value(callerKey{}).(caller)
	return a.stream(w, r, func(e *attache.Event, missed uint64) error {
		if e == nil {
			if may, err := a.stillMay(ctx, c.name, attache.RoleViewer); err != nil || !may {
				return errors.Join(errTokenEnded, err)
			}
		}
		message, err := streamed(e, missed)
		if err != nil {
			return err
		}
		return push(w, message)
	})
}

// stream answers with a stream of what each pushes, see [EventSource]. To HEAD it
// is a head alone, or nobody would ever end it.
func (a *API) stream(w http.ResponseWriter, r *http.Request, each func(e *attache.Event, missed uint64) error) error {
	w.Header().Set("Content-Type", streamType)
	if r.Method == http.MethodHead {
		return nil
	}
	return a.Events.follow(r.Context(), a.Done, each)
}

// push sends a message of a stream at once.
func push(w http.ResponseWriter, message string) error {
	control := http.NewResponseController(w)
	// In the place of the server's own, which counts from the request. A
	// connection inside the process has none.
	err := control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := io.WriteString(w, message); err != nil {
		return err
	}
	return control.Flush()
}

// streamed is an event as server-sent events have it, or a heartbeat.
func streamed(e *attache.Event, missed uint64) (string, error) {
	if e == nil {
		return ": heartbeat\n\n", nil
	}
	data, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	message := "data: " + string(data) + "\n\n"
	if missed > 0 {
		message = fmt.Sprintf("event: missed\ndata: {\"missed\":%d}\n\n", missed) + message
	}
	return message, nil
}
