package client

import (
	"strconv"
	"strings"

	"attache"
)

// Error is the server's refusal. It wraps [attache.ErrNotFound],
// [attache.ErrExists] or [attache.ErrReferenced] where that is what the server says.
type Error struct{ Problem attache.Problem }

// Error is the problem in a line: the title, then what to do, field by field
// where fields are wrong.
func (e *Error) Error() string {
	p := e.Problem
	if len(p.Errors) > 0 {
		wrong := make([]string, len(p.Errors))
		for i, f := range p.Errors {
			wrong[i] = (&attache.FieldError{Field: f.Field, Rule: f.Rule, Remedy: f.Remedy}).Error()
		}
		return strings.Join(wrong, "; ")
	}
	text := p.Title
	if text == "" {
		text = "HTTP status " + strconv.Itoa(p.Status)
	}
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	if p.RequestID != "" {
		text += " (request_id " + p.RequestID + ")"
	}
	return text
}

// Unwrap is the sentinel that the problem's code stands for, or nil.
func (e *Error) Unwrap() error {
	switch e.Problem.Code {
	case "not_found":
		return attache.ErrNotFound
	case "already_exists":
		return attache.ErrExists
	case "still_used":
		return attache.ErrReferenced
	}
	return nil
}
