package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync"

	_ "github.com/vmware/govmomi/vapi/simulator" // sessions and tags at /rest
)

const (
	oldSession   = "/rest/com/vmware/cis/session"
	oldTagging   = "/rest/com/vmware/cis/tagging/"
	newSession   = "/api/session"
	newTagging   = "/api/cis/tagging/"
	sessionField = "vmware-api-session-id"
)

// rest is the part of the vCenter that knows tags. The simulator serves it as releases before 7.0U2 do; here it is served
// as newer ones do, too, whose paths are others and whose answers come without an envelope.
type rest struct {
	inner http.Handler

	mu       sync.Mutex
	off      map[string]bool // of "old" and "new": endpoints that answer as if they were not there
	sessions map[string]bool
}

func isRest(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/rest/") || strings.HasPrefix(r.URL.Path, "/api/")
}

// restMethod is what faults call a request: rest.session, rest.category, rest.tag or rest.tag-association.
func restMethod(r *http.Request) string {
	for _, prefix := range []string{oldTagging, newTagging} {
		if rest, ok := strings.CutPrefix(r.URL.Path, prefix); ok {
			return "rest." + strings.Split(rest, "/")[0]
		}
	}
	return "rest." + path.Base(r.URL.Path)
}

// ServeHTTP answers sessions and tags, and nothing else of what the simulator has: some of it asks for no login.
func (s *rest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	modern := strings.HasPrefix(r.URL.Path, "/api/")
	s.mu.Lock()
	off := s.off["old"] && !modern || s.off["new"] && modern
	s.mu.Unlock()
	served := r.URL.Path == oldSession || r.URL.Path == newSession ||
		strings.HasPrefix(r.URL.Path, oldTagging) || strings.HasPrefix(r.URL.Path, newTagging)
	if off || !served {
		http.NotFound(w, r)
		return
	}
	if given := r.Header.Get("Authorization"); given != "" && !strings.HasPrefix(given, "Basic ") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	asked := r
	if modern {
		asked = older(r)
	}
	answer := httptest.NewRecorder()
	s.inner.ServeHTTP(answer, asked)
	body := answer.Body.Bytes()
	s.remember(r, answer.Code, body)
	w.Header().Set("Content-Type", "application/json")
	if modern && answer.Code == http.StatusOK {
		body = bare(body)
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body)
}

// older is a request of the newer API in the words of the older one.
func older(r *http.Request) *http.Request {
	made := r.Clone(r.Context())
	if r.URL.Path == newSession {
		made.URL.Path = oldSession
		return made
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, newTagging), "/")
	action := r.URL.Query().Get("action")
	if action == "list-tags-for-category" {
		var body struct {
			ID string `json:"category_id"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		parts = append(parts, body.ID)
	}
	made.URL.Path = oldTagging + parts[0]
	if len(parts) > 1 {
		made.URL.Path += "/id:" + parts[1]
	}
	made.URL.RawPath = ""
	made.URL.RawQuery = ""
	if action != "" {
		made.URL.RawQuery = url.Values{"~action": {action}}.Encode()
	}
	return made
}

// bare takes the envelope away.
func bare(body []byte) []byte {
	var envelope struct {
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(body, &envelope) != nil {
		return body
	}
	return envelope.Value
}

// remember keeps the ids of sessions, so that they can be ended behind their owners' backs.
func (s *rest) remember(r *http.Request, status int, body []byte) {
	if r.Method != http.MethodPost || status != http.StatusOK || (r.URL.Path != oldSession && r.URL.Path != newSession) {
		return
	}
	var id string
	if json.Unmarshal(bare(body), &id) == nil {
		s.mu.Lock()
		s.sessions[id] = true
		s.mu.Unlock()
	}
}

// expire ends all sessions; how many there were.
func (s *rest) expire() int {
	s.mu.Lock()
	ended := maps.Clone(s.sessions)
	clear(s.sessions)
	s.mu.Unlock()
	for id := range ended {
		_ = s.call(http.MethodDelete, oldSession, id, nil, nil)
	}
	return len(ended)
}

// call asks the simulator itself.
func (s *rest) call(method, target, session string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request := httptest.NewRequest(method, target, bytes.NewReader(data))
	request.Header.Set(sessionField, session)
	answer := httptest.NewRecorder()
	s.inner.ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		return fmt.Errorf("%s %s: %d", method, target, answer.Code)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(bare(answer.Body.Bytes()), into)
}
