package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// front is the vCenter's door: TLS on a fixed address, and able to go away and come back.
type front struct {
	address string
	tls     *tls.Config
	inner   http.Handler
	faults  *faults
	rest    *rest
	count   func(method string)

	mu     sync.Mutex
	server *http.Server
}

// start listens; harmless when it does.
func (f *front) start() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		return err
	}
	f.server = &http.Server{Handler: f, ErrorLog: log.Default()}
	go func(server *http.Server) {
		if err := server.Serve(tls.NewListener(listener, f.tls)); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("vCenter stopped serving: %s", err)
		}
	}(f.server)
	return nil
}

// show serves with another certificate from the next connection on; those there are are cut.
func (f *front) show(certificate, key string) error {
	loaded, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	if err := f.stop(); err != nil {
		return err
	}
	f.mu.Lock()
	f.tls = &tls.Config{Certificates: []tls.Certificate{loaded}, MinVersion: tls.VersionTLS12}
	f.mu.Unlock()
	return f.start()
}

// stop refuses connections from now on, and cuts those there are.
func (f *front) stop() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.server == nil {
		return nil
	}
	err := f.server.Close()
	f.server = nil
	return err
}

// ServeHTTP carries out faults of the transport, and hands everything else to the simulator.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isRest(r) {
		name := restMethod(r)
		f.count(name)
		f.carry(w, r, f.rest, f.faults.rest(name))
		return
	}
	if r.Method != http.MethodPost || !f.faults.onWire() {
		f.inner.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	method, err := simulator.UnmarshalBody(types.TypeFunc(), body)
	if err != nil {
		f.inner.ServeHTTP(w, r)
		return
	}
	f.carry(w, r, f.inner, f.faults.wire(method.Name))
}

// carry answers a request, or does to it what a rule says.
func (f *front) carry(w http.ResponseWriter, r *http.Request, inner http.Handler, done wound) {
	switch {
	case done.before:
		panic(http.ErrAbortHandler)
	case done.after:
		inner.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case done.status != 0:
		http.Error(w, http.StatusText(done.status), done.status)
	default:
		inner.ServeHTTP(w, r)
	}
}
