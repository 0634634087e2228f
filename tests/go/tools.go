//go:build tools

// Package peers pins the Go programs that the conformance tests run, at versions that Debian 12's Go (1.19) builds.
package peers

import (
	_ "github.com/summerwind/h2spec/cmd/h2spec"
	_ "google.golang.org/grpc/interop/client"
	_ "google.golang.org/grpc/interop/server"
)
