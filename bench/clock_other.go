//go:build !linux

package main

import (
	"errors"
	"time"
)

// processTime is for Linux alone, as the benchmark is.
func processTime(int) (time.Duration, error) { return 0, errors.ErrUnsupported }
