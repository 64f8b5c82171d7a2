package faulttest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Cluster is several brokers that replicate among themselves on loopback.
type Cluster struct {
	Nodes []*Broker
	t     testing.TB
}

// StartCluster starts n nodes named n0, n1, … and waits until JetStream has a leader.
func StartCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	return StartNodes(t, make([]BrokerOptions, n))
}

// StartNodes is [StartCluster] with options for each node; names are the harness's.
func StartNodes(t testing.TB, nodes []BrokerOptions) *Cluster {
	t.Helper()
	n := len(nodes)
	routes := make([]int, n)
	urls := make([]string, n)
	for i := range n {
		routes[i] = FreePort(t)
		urls[i] = fmt.Sprintf("nats://127.0.0.1:%d", routes[i])
	}
	c := &Cluster{t: t}
	for i := range n {
		o := nodes[i]
		o.Name = fmt.Sprintf("n%d", i)
		o.Extra = fmt.Sprintf("cluster { name: faulttest, listen: 127.0.0.1:%d, routes: [%s] }\n%s",
			routes[i], strings.Join(urls, ", "), o.Extra)
		c.Nodes = append(c.Nodes, newBroker(t, o))
	}
	c.Restart()
	return c
}

// Restart starts all nodes at once, those that run are killed first, and waits until each is
// healthy.
func (c *Cluster) Restart() {
	c.t.Helper()
	for _, node := range c.Nodes {
		node.begin()
	}
	for _, node := range c.Nodes {
		node.WaitHealthy("")
	}
}

// URLs is the comma list of all nodes.
func (c *Cluster) URLs() string {
	urls := make([]string, len(c.Nodes))
	for i, node := range c.Nodes {
		urls[i] = node.URL
	}
	return strings.Join(urls, ",")
}

// StreamLeader is the node that leads a stream.
func (c *Cluster) StreamLeader(js jetstream.JetStream, stream string) *Broker {
	c.t.Helper()
	return c.leader("stream "+stream, func(ctx context.Context) (*jetstream.ClusterInfo, error) {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return nil, err
		}
		return s.CachedInfo().Cluster, nil
	})
}

// ConsumerLeader is the node that leads a consumer.
func (c *Cluster) ConsumerLeader(js jetstream.JetStream, stream, consumer string) *Broker {
	c.t.Helper()
	return c.leader("consumer "+consumer, func(ctx context.Context) (*jetstream.ClusterInfo, error) {
		cons, err := js.Consumer(ctx, stream, consumer)
		if err != nil {
			return nil, err
		}
		return cons.CachedInfo().Cluster, nil
	})
}

// leader asks until the reply names a node, since an election may be under way.
func (c *Cluster) leader(what string, ask func(context.Context) (*jetstream.ClusterInfo, error)) *Broker {
	c.t.Helper()
	var found *Broker
	Until(c.t, startLimit, what+" has a leader", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		defer cancel()
		info, err := ask(ctx)
		if err != nil || info == nil {
			return false
		}
		for _, node := range c.Nodes {
			if node.name == info.Leader {
				found = node
				return true
			}
		}
		return false
	})
	return found
}
