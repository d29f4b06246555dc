package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"attache"
	"attache/secret"
)

// Request bodies are decoded here and not by huma's validation: its errors
// repeat what was sent, it lets a field appear twice, and it would hold rules
// that package policy already holds. What is left to say about a body is its
// form: JSON, one object, known fields, each once, each of its type.

// WithBody gives an operation's input a JSON object as its body.
type WithBody[T any] struct{ Body body[T] }

func (w *WithBody[T]) bodyError() error { return w.Body.err }

// body is a decoded T, or why it could not be decoded; [register] looks.
type body[T any] struct {
	value T
	err   error
}

func (b *body[T]) decode(data []byte) { b.err = decode(data, &b.value) }

// Schema implements [huma.SchemaProvider]: the body is documented as a T.
func (*body[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

// jsonFormat is the API's one format. Bodies decode themselves and keep their
// error, because huma would repeat the body beside it.
var jsonFormat = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		b, ok := v.(interface{ decode([]byte) })
		if !ok {
			return errors.New("this route reads no body")
		}
		b.decode(data)
		return nil
	},
}

// decode reads one JSON object into the struct that v points to. Its errors name
// fields and places, never a value.
func decode(data []byte, v any) error {
	if err := wellFormed(data); err != nil {
		return err
	}
	known := fieldsOf(reflect.ValueOf(v).Elem())
	seen := make(map[string]bool, len(known))
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return fail(CodeMalformed, "The body must be a JSON object.")
	}
	var wrong []error
	for dec.More() && len(wrong) < maxFieldErrors {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		key := name.(string) // a key of a well-formed object
		switch field, ok := known[key]; {
		case !ok:
			wrong = append(wrong, unknownField(v, key))
		case seen[key]:
			wrong = append(wrong, &attache.FieldError{Field: key, Rule: "appears twice", Remedy: "send it once"})
		default:
			if err := decodeField(key, raw, field); err != nil {
				wrong = append(wrong, err)
			}
		}
		seen[key] = true
	}
	return errors.Join(wrong...)
}

// wellFormed says where the body stops being JSON.
func wellFormed(data []byte) error {
	if !utf8.Valid(data) {
		return fail(CodeMalformed, "The body is not UTF-8.")
	}
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if err == nil {
		return nil
	}
	at := len(data)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at = int(syntax.Offset) - 1 // the offset is that of what comes after the wrong byte
	}
	before := data[:max(at, 0)]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fail(CodeMalformed, fmt.Sprintf("The body is not valid JSON: see line %d, column %d.", line, column))
}

// fieldsOf maps the JSON names of a struct's fields to the fields, those of
// embedded structs included.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			for name, field := range fieldsOf(v.Field(i)) {
				fields[name] = field
			}
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields[name] = v.Field(i)
	}
	return fields
}

func decodeField(name string, raw json.RawMessage, field reflect.Value) error {
	err := json.Unmarshal(raw, field.Addr().Interface())
	switch {
	case err == nil:
		return nil
	case errors.Is(err, secret.ErrRedacted):
		return &attache.FieldError{
			Field: name, Rule: `is the placeholder "` + secret.Redacted + `", not a secret`,
			Remedy: "send the credential itself: answers of this API never hold it",
		}
	}
	return &attache.FieldError{Field: name, Rule: "has the wrong type", Remedy: "send " + described(field.Type())}
}

// described is a JSON type in words, for those that this API reads.
func described(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Time]():
		return "a time as in 2026-01-31T12:00:00Z"
	case reflect.TypeFor[secret.Text](), reflect.TypeFor[secret.Outgoing]():
		return "a string"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return described(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Map:
		return `an object of strings, such as {"prompt": "consent"}`
	case reflect.Struct:
		return "an object"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "a list of strings"
		}
		return "a list of whole numbers up to 65535, such as [443]"
	default:
		return "a string"
	}
}

// unknownField refuses a field, and says more of one that the request's type
// has something to say of.
func unknownField(v any, name string) error {
	if r, ok := v.(interface {
		refusal(name string) *attache.FieldError
	}); ok {
		if err := r.refusal(name); err != nil {
			return err
		}
	}
	return &attache.FieldError{Field: name, Rule: "is not a field of this request", Remedy: "leave it out, or correct its spelling"}
}

// neverChanges refuses a field of something that would have to be made anew.
func neverChanges(name, thing string) *attache.FieldError {
	return &attache.FieldError{
		Field: name, Rule: "never changes after creation",
		Remedy: "leave it out; to change it, delete the " + thing + " and create it again",
	}
}
