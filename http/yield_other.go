//go:build !linux

package http

func yieldCore() {}
