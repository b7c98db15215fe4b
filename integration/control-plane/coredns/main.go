// CoreDNS with no more than what a cluster's own names need.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	// Their order in a chain of plugins.
	dnsserver.Directives = []string{"ready", "errors", "kubernetes"}
	coremain.Run()
}
