// Command openbao is a real OpenBao core with its Transit engine behind its own HTTP handler, in memory, for tests.
//
// It serves over TLS on loopback, prints one line of JSON (the root token, and the key that unseals it), and ends with its
// standard input. OpenBao's own command does the same, with some hundred modules more to build.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/openbao/openbao/builtin/logical/transit"
	vaulthttp "github.com/openbao/openbao/http"
	"github.com/openbao/openbao/internalshared/configutil"
	"github.com/openbao/openbao/sdk/v2/helper/consts"
	"github.com/openbao/openbao/sdk/v2/logical"
	"github.com/openbao/openbao/sdk/v2/physical/inmem"
	"github.com/openbao/openbao/vault"
)

// noPlugins says that Transit, which is compiled in, is all there is.
type noPlugins struct{}

func (noPlugins) Contains(string, consts.PluginType) bool { return false }

func (noPlugins) Get(string, consts.PluginType) (func() (interface{}, error), bool) {
	return nil, false
}

func (noPlugins) Keys(consts.PluginType) []string { return nil }

func (noPlugins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Unknown, false
}

type opened struct {
	RootToken string `json:"root_token"`
	UnsealKey string `json:"unseal_key"`
}

func main() {
	port := flag.Int("port", 0, "loopback port")
	certificate := flag.String("certificate", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	flag.Parse()
	if err := serve(*port, *certificate, *key); err != nil {
		log.Fatal(err)
	}
}

func serve(port int, certificate, key string) error {
	core, told, err := start()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	properties := &vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}}
	server := &http.Server{Handler: vaulthttp.Handler.Handler(properties), ReadHeaderTimeout: 10 * time.Second}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		return err
	}
	return server.ServeTLS(listener, certificate, key)
}

// start makes a core, initialises it with one unseal key, and unseals it.
func start() (*vault.Core, *opened, error) {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr})
	backend, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, nil, err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:        backend,
		BuiltinRegistry: noPlugins{},
		Logger:          logger,
		LogicalBackends: map[string]logical.Factory{"transit": transit.Factory},
	})
	if err != nil {
		return nil, nil, err
	}
	shares := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: shares, RecoveryConfig: shares})
	if err != nil {
		return nil, nil, err
	}
	if _, err := core.Unseal(made.SecretShares[0]); err != nil {
		return nil, nil, err
	}
	return core, &opened{made.RootToken, hex.EncodeToString(made.SecretShares[0])}, nil
}
