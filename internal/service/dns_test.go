package service_test

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// nameServer answers DNS questions over UDP with what answer returns: nil stays silent, an
// empty slice is NXDOMAIN, else the address.
func nameServer(t *testing.T, answer func() []byte) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if ip := answer(); ip != nil {
				_, _ = pc.WriteTo(respond(buf[:n], ip), from)
			}
		}
	}()
	// A lookup outlives the call that gave up on it: cancelling ends it with the test.
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		_ = pc.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
		if err == nil {
			context.AfterFunc(ctx, func() { _ = c.Close() })
		}
		return c, err
	}}
}

// respond writes a reply after RFC 1035: the header and the question again, then the address
// if it was asked for.
func respond(query, ip []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	isA := binary.BigEndian.Uint16(query[end+1:]) == 1
	msg := append([]byte{}, query[:end+5]...)
	binary.BigEndian.PutUint16(msg[2:], 0x8180)
	clear(msg[6:12])
	switch {
	case len(ip) == 0:
		msg[3] |= 3 // NXDOMAIN
	case isA:
		msg[7] = 1
		msg = append(msg, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		msg = append(msg, ip...)
	}
	return msg
}

// TestNames has names that do not resolve, resolve slowly, or lead where nobody is.
func TestNames(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer []byte
		want   want
	}{
		"NXDOMAIN":          {[]byte{}, want{reason: jobs.ReasonDNS}},
		"silent resolver":   {nil, want{reason: jobs.ReasonTimeout}},
		"metadata address":  {[]byte{169, 254, 169, 254}, want{reason: jobs.ReasonRefused, wrong: true}},
		"nobody is at home": {[]byte{127, 0, 0, 1}, want{reason: jobs.ReasonRefused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			cfg.Tries = 2
			if test.answer == nil {
				cfg.Timeout = slow
			}
			s := newService(t, "http://payments.invalid:1/jobs", cfg, service.Deps{Resolver: nameServer(t, func() []byte { return test.answer })})
			r := s.Call(t.Context(), call(1))
			test.want.check(t, r)
			if test.want.reason == jobs.ReasonDNS && !strings.Contains(r.Failure.Error(), "payments.invalid") {
				t.Errorf("the error does not name the host: %v", r.Failure)
			}
		})
	}
}

func TestAFlappingNameIsTriedAgain(t *testing.T) {
	t.Parallel()
	url := serve(t, fine)
	var flapped atomic.Bool
	resolver := nameServer(t, func() []byte {
		if flapped.Load() {
			return []byte{127, 0, 0, 1}
		}
		return []byte{}
	})
	url = strings.Replace(url, "127.0.0.1", "flapping.invalid", 1)
	cfg := config()
	cfg.Tries = 1
	s := newService(t, url, cfg, service.Deps{Resolver: resolver})
	want{reason: jobs.ReasonDNS}.check(t, s.Call(t.Context(), call(1)))
	flapped.Store(true)
	if r := s.Call(t.Context(), call(1)); r.Failure != nil {
		t.Error(r.Failure)
	}
}

func TestLinkLocalAddressesAreNeverCalled(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fe80::1%25eth0]", "169.254.170.23",
		"[fd00:ec2::254]", "[fd00:ec2::23]", "[fd20:ce::254]", "100.100.100.200", "192.0.0.192", "168.63.129.16",
	} {
		if _, err := service.New("billing", "http://"+host+"/latest/meta-data", config(), service.Deps{}); err == nil || !strings.Contains(err.Error(), "never called") {
			t.Errorf("%s: got %v", host, err)
		}
	}
}
