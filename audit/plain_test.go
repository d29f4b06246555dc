package audit

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"attache"
)

// fill draws a value for each field of e, whatever fields it has.
func fill(t *rapid.T, e *attache.Event) {
	texts := rapid.OneOf(rapid.StringMatching(`[ -~]{0,20}`), rapid.String(), rapid.Just(""))
	numbers := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 100), rapid.SampledFrom([]float64{0, 1e-6, 9.9e-7, 1e21, math.Copysign(0, -1)}))
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch field := v.Field(i); field.Kind() {
		case reflect.String:
			field.SetString(texts.Draw(t, name))
		case reflect.Int, reflect.Int64:
			field.SetInt(rapid.Int64().Draw(t, name))
		case reflect.Float64:
			field.SetFloat(numbers.Draw(t, name))
		default:
			zone := time.FixedZone("", rapid.IntRange(-12*60, 12*60).Draw(t, "offset")*60)
			field.Set(reflect.ValueOf(time.Unix(0, rapid.Int64().Draw(t, name)).In(zone)))
		}
	}
}

func TestAPlainEventIsWrittenAsEncodingJSONWrites(t *testing.T) {
	var p plain
	rapid.Check(t, func(rt *rapid.T) {
		var e attache.Event
		fill(rt, &e)
		got, ok := p.append(nil, &e)
		if !ok {
			return
		}
		want, err := json.Marshal(e)
		if err != nil {
			rt.Fatal(err)
		}
		var text any // what json escapes for HTML's sake is the same text
		if err := json.Unmarshal(got, &text); err != nil {
			rt.Fatalf("%v in %s", err, got)
		}
		var wanted any
		_ = json.Unmarshal(want, &wanted)
		if diff := cmp.Diff(wanted, text); diff != "" {
			rt.Errorf("(-json +plain):\n%s", diff)
		}
	})
}

func TestOrdinaryEventsArePlain(t *testing.T) {
	e := attache.Event{
		ID: "0a1b2c3d-7", Time: time.Now(), Kind: attache.RequestEvent, Integration: "bot", Decision: attache.Inject,
		Target: "https://api.example.com", Method: "GET", Path: "/a/b?", Status: 200, Duration: 0.0012, Upstream: 0.001,
	}
	if _, ok := new(plain).append(nil, &e); !ok {
		t.Error("it is not plain")
	}
	e.Path = "/\x1b[2J"
	if line, ok := new(plain).append(nil, &e); ok {
		t.Errorf("a terminal is driven by %q", line)
	}
}

func BenchmarkLine(b *testing.B) {
	e := attache.Event{
		ID: "0a1b2c3d-7", Time: time.Now(), Kind: attache.RequestEvent, Tunnel: "0a1b2c3d-6", Client: "127.0.0.1", Integration: "bot",
		Connection: "tickets", Decision: attache.Inject, Target: "https://api.example.com", Method: "GET", Path: "/a/b", Protocol: "HTTP/1.1",
		Status: 200, BytesOut: 200, Duration: 0.0012, Upstream: 0.001,
	}
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		var p plain
		var line []byte
		for b.Loop() {
			line, _ = p.append(line[:0], &e)
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = json.Marshal(&e)
		}
	})
}
