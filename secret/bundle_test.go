package secret_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"attache/secret"
)

func TestABundleGivesBackWhatWasPutIn(t *testing.T) {
	var one, other secret.Bundle
	first, empty, second := one.Add(secret.New("first")), one.Add(secret.Text{}), one.Add(secret.New("second"))
	carried := other.Carry(one, second)
	nothing := other.Carry(one, empty)
	for want, got := range map[string]secret.Text{
		"first": one.Text(first), "second": one.Text(second), "second ": secret.Concat(other.Text(carried), secret.New(" ")),
	} {
		if got.Expose() != want {
			t.Errorf("the text is %q, want %q", got.Expose(), want)
		}
	}
	if !one.Text(empty).IsZero() || !other.Text(nothing).IsZero() || !new(secret.Bundle).Text(secret.Span{}).IsZero() {
		t.Error("the empty text is not empty")
	}
	if one.Len() != len("firstsecond") || other.Len() != len("second") || new(secret.Bundle).Len() != 0 {
		t.Errorf("there are %d and %d bytes", one.Len(), other.Len())
	}
}

func TestABundleShowsNothing(t *testing.T) {
	var b secret.Bundle
	b.Add(secret.New(canary))
	hidden := struct{ bundle secret.Bundle }{b}
	for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d %p %t") {
		for _, v := range []any{b, &b, hidden, &hidden, []secret.Bundle{b}} {
			shown(t, verb, fmt.Sprintf(verb, v))
		}
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "a", b, "b", &b, "c", hidden)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "a", b, "b", &b, "c", hidden)
	shown(t, "slog", log.String())
	for how, encode := range map[string]func(any) ([]byte, error){"JSON": json.Marshal, "XML": xml.Marshal, "YAML": yaml.Marshal} {
		written, err := encode(b)
		if err != nil {
			t.Errorf("%s: %v", how, err)
		}
		shown(t, how, string(written))
		if !strings.Contains(string(written), secret.Redacted) {
			t.Errorf("%s does not say that there is something: %s", how, written)
		}
	}
}
