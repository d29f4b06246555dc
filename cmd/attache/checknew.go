package main

import (
	"errors"

	"attache"
	"attache/client"
	"attache/policy"
)

// checkNew is what the API would refuse about a new connection whatever its
// credential is, as far as that can be told without it.
func checkNew(in client.NewConnection) error {
	var wrong []attache.ProblemField
	check := func(err error) {
		var refused *attache.FieldError
		if errors.As(err, &refused) {
			wrong = append(wrong, attache.ProblemField{Field: refused.Field, Rule: refused.Rule, Remedy: refused.Remedy})
		}
	}
	_, err := policy.ParseName("name", in.Name)
	check(err)
	_, err = policy.ParseAllowedDomain(in.AllowedDomain)
	check(err)
	if in.HeaderName != "" {
		_, err = policy.ParseHeaderName(in.HeaderName)
		check(err)
	}
	if wrong == nil {
		return nil
	}
	return &client.Error{Problem: attache.Problem{Errors: wrong}}
}
