package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/crypto"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Key providers: the site's own has its keys made and looked up at a real KMIP server, through the lab; a native one
// makes its keys on the hosts, and refuses to make one when asked for it.

type providers struct {
	maker    string // URL of the lab's door to the KMIP server; empty: keys are the simulator's own
	standard string
	native   string // empty: there is none

	mu       sync.Mutex
	inactive map[string]bool
	made     map[string]bool // the native one's keys
}

func newProviders(c *config) *providers {
	return &providers{
		maker: c.KeyMaker, standard: c.KeyProvider, native: c.NativeProvider,
		inactive: map[string]bool{}, made: map[string]bool{},
	}
}

// ask has the KMIP server make a key ("make"), or tell one's state ("state").
func (p *providers) ask(words ...string) (string, error) {
	body, err := json.Marshal(words)
	if err != nil {
		return "", err
	}
	client := &http.Client{Timeout: 20 * time.Second}
	answer, err := client.Post(p.maker, "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the key server's door: %s", answer.Status)
	}
	var told string
	return told, json.NewDecoder(answer.Body).Decode(&told)
}

func (p *providers) active(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.inactive[id]
}

// create makes a key at a provider, as a vCenter does that was told none.
func (p *providers) create(provider string) (string, bool) {
	if !p.active(provider) {
		return "", false
	}
	switch {
	case provider == p.native && p.native != "":
		made := uuid.NewString()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.made[made] = true
		return made, true
	case provider == p.standard:
		made, err := p.ask("make", "vcenter")
		return made, err == nil
	}
	return "", false
}

// usable tells whether hosts can get at a key now.
func (p *providers) usable(key types.CryptoKeyId) bool {
	if p.maker == "" {
		return true
	}
	if key.ProviderId == nil || !p.active(key.ProviderId.Id) {
		return false
	}
	if key.ProviderId.Id == p.native {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.made[key.KeyId]
	}
	state, err := p.ask("state", key.KeyId)
	return err == nil && state == "active"
}

// cryptoManager answers for the providers as they are in the lab.
type cryptoManager struct {
	*simulator.CryptoManagerKmip
	site *site
}

func (m *cryptoManager) cluster(id *types.KeyProviderId) string {
	if id == nil {
		return m.site.providers.standard
	}
	return id.Id
}

func (m *cryptoManager) ListKmsClusters(*simulator.Context, *types.ListKmsClusters) soap.HasFault {
	return &methods.ListKmsClustersBody{Res: &types.ListKmsClustersResponse{Returnval: m.KmipServers}}
}

func (m *cryptoManager) IsKmsClusterActive(_ *simulator.Context, req *types.IsKmsClusterActive) soap.HasFault {
	return &methods.IsKmsClusterActiveBody{
		Res: &types.IsKmsClusterActiveResponse{Returnval: m.site.providers.active(m.cluster(req.Cluster))},
	}
}

func (m *cryptoManager) GenerateKey(ctx *simulator.Context, req *types.GenerateKey) soap.HasFault {
	provider := m.cluster(req.KeyProvider)
	if m.site.providers.maker == "" || provider != m.site.providers.standard {
		return m.CryptoManagerKmip.GenerateKey(ctx, req)
	}
	result := types.CryptoKeyResult{KeyId: types.CryptoKeyId{ProviderId: &types.KeyProviderId{Id: provider}}}
	result.KeyId.KeyId, result.Success = m.site.providers.create(provider)
	if !result.Success {
		result.Reason = "the key provider cannot be reached"
	}
	return &methods.GenerateKeyBody{Res: &types.GenerateKeyResponse{Returnval: result}}
}

func (m *cryptoManager) QueryCryptoKeyStatus(_ *simulator.Context, req *types.QueryCryptoKeyStatus) soap.HasFault {
	answer := &types.QueryCryptoKeyStatusResponse{}
	for _, key := range req.KeyIds {
		one := types.CryptoManagerKmipCryptoKeyStatus{KeyId: key}
		if req.CheckKeyBitMap&crypto.CheckKeyAvailable != 0 {
			one.KeyAvailable = types.NewBool(m.site.providers.usable(key))
		}
		answer.Returnval = append(answer.Returnval, one)
	}
	return &methods.QueryCryptoKeyStatusBody{Res: answer}
}

// changeProvider makes a provider inactive, or active again, or of another kind.
func (c *control) changeProvider(o order) (any, error) {
	manager := c.registry.CryptoManager()
	at := slices.IndexFunc(manager.KmipServers, func(one types.KmipClusterInfo) bool { return one.ClusterId.Id == o.Name })
	if at < 0 {
		return nil, fmt.Errorf("no key provider is called %s", o.Name)
	}
	if o.Kind != "" {
		manager.KmipServers[at].ManagementType = o.Kind
		return nil, nil
	}
	c.site.providers.mu.Lock()
	defer c.site.providers.mu.Unlock()
	c.site.providers.inactive[o.Name] = !o.On
	return nil, nil
}
