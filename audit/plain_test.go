package audit

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"attache"
)

// fill draws a value for each field of e, whatever fields it has; of one event in
// four, any value.
func fill(t *rapid.T, e *attache.Event) {
	texts, numbers := rapid.StringMatching(`[ !#-\[\]-~]{0,20}`), rapid.Float64Range(1e-6, 100)
	if rapid.IntRange(0, 3).Draw(t, "odd") == 0 {
		texts = rapid.OneOf(texts, texts, rapid.StringMatching(`[ -~]{0,20}`), rapid.String())
		numbers = rapid.OneOf(rapid.Float64(), numbers, rapid.SampledFrom([]float64{0, 1e-6, 9.9e-7, 1e21, math.Copysign(0, -1)}))
	}
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
			zone := time.FixedZone("", rapid.IntRange(-25*60, 25*60).Draw(t, "offset")*60)
			field.Set(reflect.ValueOf(time.Unix(0, rapid.Int64().Draw(t, name)).In(zone)))
		}
	}
}

// A plain event's line is that of encoding/json, byte for byte.
func TestAPlainEventIsWrittenAsEncodingJSONWrites(t *testing.T) {
	var p plain
	var e attache.Event
	var plains int
	rapid.Check(t, func(rt *rapid.T) {
		before := e.Time
		fill(rt, &e)
		if rapid.Bool().Draw(rt, "soon") {
			e.Time = before.Add(time.Duration(rapid.Int64Range(-2e9, 2e9).Draw(rt, "later")))
		}
		got, ok := p.append([]byte("before "), &e)
		if !ok {
			if string(got) != "before " {
				rt.Errorf("of an event that is not plain there is %q", got)
			}
			return
		}
		plains++
		want := bytes.NewBufferString("before ")
		encoder := json.NewEncoder(want)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(e); err != nil {
			rt.Fatal(err)
		}
		if string(got) != want.String() {
			rt.Errorf("it is\n%s\nand not\n%s", got, want)
		}
	})
	if plains == 0 {
		t.Error("no event was plain")
	}
}

// Seconds are written in their shortest form, whatever they were made of.
func TestSecondsAreWrittenInTheirShortestForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.OneOf(
			rapid.Map(rapid.Int64Range(1000, math.MaxInt64), func(n int64) float64 { return time.Duration(n).Seconds() }),
			rapid.Map(rapid.Int64Range(1000, 1e10), func(n int64) float64 { return time.Duration(n).Seconds() }),
			rapid.Float64Range(1e-6, 10),
			rapid.Float64Range(1e-6, 1e20),
		).Draw(t, "seconds")
		if got, want := string(appendSeconds(nil, f)), strconv.FormatFloat(f, 'f', -1, 64); got != want {
			t.Errorf("%v is written as %s, want %s", f, got, want)
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
