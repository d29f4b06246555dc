//go:build !profile

package main

// profiled is for a build with the tag profile.
func (a *app) profiled(run func() int) int { return run() }
