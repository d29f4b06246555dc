package secret_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"attache/secret"
)

// canary is the secret that must not be found in anything below.
const canary = "canary-9d41f0"

// shown fails if the canary is in what was written, in the clear or in a form
// that can be read back.
func shown(t *testing.T, how, written string) {
	t.Helper()
	bytewise := strings.Trim(fmt.Sprint([]byte(canary)), "[]")
	for _, form := range []string{
		canary, canary[1:], hex.EncodeToString([]byte(canary)), fmt.Sprintf("% x", canary), bytewise,
		base64.StdEncoding.EncodeToString([]byte(canary)), fmt.Sprintf("%U", []rune(canary)),
	} {
		if strings.Contains(strings.ToLower(written), strings.ToLower(form)) {
			t.Errorf("%s shows the secret", how)
		}
	}
}

// holder has a secret everywhere that one can be.
type holder struct {
	Text    secret.Text
	Pointer *secret.Text
	Slice   []secret.Text
	Array   [1]secret.Text
	Map     map[string]secret.Text
	Any     any
	Nested  struct{ Deep struct{ Text secret.Text } }
	Inner   *holder
	hidden  secret.Text
	hiding  struct{ slice []secret.Text }
	buried  *secret.Text
	any     any
}

func hold(s string) holder {
	t := secret.New(s)
	h := holder{
		Text: t, Pointer: &t, Slice: []secret.Text{t}, Array: [1]secret.Text{t}, Map: map[string]secret.Text{"k": t}, Any: t,
		Inner: &holder{Text: t, hidden: t}, hidden: t, buried: &t, any: t,
	}
	h.Nested.Deep.Text, h.hiding.slice = t, []secret.Text{t}
	return h
}

// holders are the shapes in which a secret is printed, logged and encoded.
func holders() map[string]any {
	h, text := hold(canary), secret.New(canary)
	return map[string]any{
		"a text": text, "a pointer to a text": &text, "a slice": []secret.Text{text}, "a map": map[string]secret.Text{"k": text},
		"a map's key": map[secret.Text]int{text: 1}, "a struct": h, "a pointer to a struct": &h, "a slice of structs": []holder{h},
		"an error's operand":   fmt.Errorf("refused %v: %w", text, errors.New("why")),
		"what it was built of": secret.Concat(secret.New("Bearer "), text), "basic auth": secret.BasicAuth(text, text),
	}
}

func TestNoVerbPrintsASecret(t *testing.T) {
	for what, v := range holders() {
		for _, verb := range "vTtbcdoOqxXUeEfFgGsp!" {
			for _, flags := range []string{"", "+", "#", " ", "-", "0", "+#", "# ", "20", ".3", "[1]"} {
				format := "%" + flags + string(verb)
				shown(t, format+" of "+what, fmt.Sprintf(format, v))
			}
		}
		shown(t, "Print of "+what, fmt.Sprint(v)+fmt.Sprintln(v))
		shown(t, "a width, "+what, fmt.Sprintf("%*d", v, 1))
	}
}

func TestEveryVerbPrintsThatThereIsOne(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		if got := fmt.Sprintf(format, secret.New(canary)); got != secret.Redacted {
			t.Errorf("%s prints %q", format, got)
		}
		if got := fmt.Sprintf(format, secret.Text{}); got != "" {
			t.Errorf("%s of no secret prints %q", format, got)
		}
	}
}

func TestNoLogShowsASecret(t *testing.T) {
	var out bytes.Buffer
	for how, handler := range map[string]slog.Handler{
		"text": slog.NewTextHandler(&out, nil),
		"json": slog.NewJSONHandler(&out, nil),
	} {
		for what, v := range holders() {
			out.Reset()
			log := slog.New(handler).With("with", v).WithGroup("group")
			log.Info("message", "value", v, slog.Group("deeper", "value", v), slog.Any("any", v))
			shown(t, what+" in a "+how+" log", out.String())
		}
		out.Reset()
		slog.New(handler).Info("message", "key", secret.New(canary))
		if !strings.Contains(out.String(), secret.Redacted) {
			t.Errorf("a %s log does not say that there is a secret: %s", how, out.String())
		}
	}
}

func TestNoEncoderWritesASecret(t *testing.T) {
	encoders := map[string]func(any) ([]byte, error){
		"JSON": json.Marshal,
		"YAML": yaml.Marshal,
		"XML":  func(v any) ([]byte, error) { return xml.Marshal(v) },
		"gob": func(v any) ([]byte, error) {
			var out bytes.Buffer
			err := gob.NewEncoder(&out).Encode(v)
			return out.Bytes(), err
		},
		"a template": func(v any) ([]byte, error) {
			var out bytes.Buffer
			err := template.Must(template.New("").Parse(`<p title="{{.}}">{{.}}</p><script>let x = {{.}}</script>`)).Execute(&out, v)
			return out.Bytes(), err
		},
	}
	for how, encode := range encoders {
		for what, v := range holders() {
			out, err := encode(v) // some refuse some shapes, which is as good
			shown(t, what+" in "+how, string(out))
			shown(t, how+"'s error about "+what, fmt.Sprint(err))
		}
	}
	for how, want := range map[string]string{
		"JSON": `{"text":"[redacted]"}`,
		"YAML": "text: '[redacted]'\n",
	} {
		out, err := encoders[how](struct {
			Text secret.Text `json:"text" yaml:"text"`
			None secret.Text `json:"none,omitzero" yaml:"none,omitempty"`
		}{Text: secret.New(canary)})
		if err != nil || string(out) != want {
			t.Errorf("%s is %q, %v, want %q", how, out, err, want)
		}
	}
}

func TestASecretIsDecodedButNotFromItsPlaceholder(t *testing.T) {
	decoders := map[string]struct {
		decode     func([]byte, any) error
		good, echo string
	}{
		"JSON": {json.Unmarshal, `{"text":"` + canary + `"}`, `{"text":"[redacted]"}`},
		"YAML": {func(b []byte, v any) error { return yaml.Unmarshal(b, v) }, "text: " + canary, "text: '[redacted]'"},
		"XML":  {xml.Unmarshal, `<x><text>` + canary + `</text></x>`, `<x><text>[redacted]</text></x>`},
	}
	type record struct {
		Text secret.Text `json:"text" yaml:"text" xml:"text"`
	}
	for how, d := range decoders {
		t.Run(how, func(t *testing.T) {
			var r record
			if err := d.decode([]byte(d.good), &r); err != nil || r.Text.Expose() != canary {
				t.Errorf("the secret is %q, %v", r.Text.Expose(), err)
			}
			if err := d.decode([]byte(d.echo), &r); !errors.Is(err, secret.ErrRedacted) {
				t.Errorf("the placeholder: %v, want ErrRedacted", err)
			}
			if r.Text.Expose() != canary {
				t.Error("the placeholder replaced the secret")
			}
		})
	}
}

func TestOutgoingIsEncodedInTheClearAndPrintedRedacted(t *testing.T) {
	out := secret.Outgoing{Text: secret.New(canary)}
	encoded, err := json.Marshal(map[string]any{"token": out})
	if want := `{"token":"` + canary + `"}`; err != nil || string(encoded) != want {
		t.Errorf("JSON is %s, %v", encoded, err)
	}
	var back struct{ Token secret.Outgoing }
	if err := json.Unmarshal(encoded, &back); err != nil || !back.Token.Equal(out.Text) {
		t.Errorf("it is not decoded: %v", err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown(t, format, fmt.Sprintf(format, out))
		shown(t, format+" of a struct", fmt.Sprintf(format, struct{ o secret.Outgoing }{out}))
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("message", "token", out)
	slog.New(slog.NewTextHandler(&log, nil)).Info("message", "token", out)
	shown(t, "a log", log.String())
}

func TestTexts(t *testing.T) {
	var zero secret.Text
	if !zero.IsZero() || zero.Expose() != "" || zero.Len() != 0 || secret.New("") != zero {
		t.Error("no text is not the zero Text")
	}
	a, b := secret.New("abc"), secret.New("abc")
	if a.IsZero() || a.Len() != 3 || a.Expose() != "abc" {
		t.Error("a text is not what it was made of")
	}
	if !a.Equal(b) || a.Equal(secret.New("abd")) || a.Equal(secret.New("ab")) || a.Equal(zero) || !zero.Equal(zero) {
		t.Error("texts are not compared by what they hold")
	}
	if got := secret.Concat(a, zero, b).Expose(); got != "abcabc" {
		t.Errorf("Concat is %q", got)
	}
	if got := secret.Concat(zero, zero); !got.IsZero() {
		t.Error("nothing and nothing is something")
	}
	// The example of RFC 7617, section 2.1.
	if got := secret.BasicAuth(secret.New("test"), secret.New("123£")).Expose(); got != "Basic dGVzdDoxMjPCow==" {
		t.Errorf("BasicAuth is %q", got)
	}
	why := errors.New("why")
	if err := a.Check(func(s string) error {
		if s == "abc" {
			return why
		}
		return nil
	}); !errors.Is(err, why) {
		t.Errorf("Check is %v", err)
	}
}

func TestPrivateKeysComeBack(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"P-256": ec, "Ed25519": ed} {
		t.Run(name, func(t *testing.T) {
			text, err := secret.FromPrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			back, err := text.PrivateKey()
			if err != nil {
				t.Fatal(err)
			}
			if !back.(interface{ Equal(crypto.PrivateKey) bool }).Equal(key) {
				t.Error("it is another key")
			}
		})
	}
	for sentence, c := range map[string]struct{ text, want string }{
		"what is not PEM":              {canary, "private key: not PEM"},
		"nothing":                      {"", "private key: not PEM"},
		"PEM of something else":        {"-----BEGIN X-----\n" + base64.StdEncoding.EncodeToString([]byte(canary)) + "\n-----END X-----\n", "private key: not PKCS #8"},
		"a key that cannot sign, ECDH": {x25519, "private key: cannot sign"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := secret.New(c.text).PrivateKey()
			if err == nil || err.Error() != c.want {
				t.Errorf("the error is %v, want %s", err, c.want)
			}
		})
	}
	if _, err := secret.FromPrivateKey(nil); err == nil {
		t.Error("no key is encoded")
	}
}

// x25519 is the key of RFC 8410, section 10.3, with X25519's identifier.
const x25519 = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
`
