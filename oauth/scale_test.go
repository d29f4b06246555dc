//go:build !race

package oauth_test

// monthly is how many connections live through a month.
const monthly = 1000
