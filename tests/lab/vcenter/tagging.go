package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
)

// administrator works on tags as one does in the vSphere client, over a session of its own.
type administrator struct {
	rest    *rest
	session string
}

type named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (c *control) administrator() (*administrator, error) {
	request := httptest.NewRequest(http.MethodPost, oldSession, nil)
	request.SetBasicAuth(c.site.config.User, c.site.config.Password)
	answer := httptest.NewRecorder()
	c.front.rest.inner.ServeHTTP(answer, request)
	made := &administrator{rest: c.front.rest}
	return made, json.Unmarshal(bare(answer.Body.Bytes()), &made.session)
}

func (a *administrator) close() { _ = a.call(http.MethodDelete, oldSession, nil, nil) }

func (a *administrator) call(method, target string, body, into any) error {
	return a.rest.call(method, target, a.session, body, into)
}

// find is the category or tag of that name among those of a listing; empty when there is none.
func (a *administrator) find(kind, name string, method, listing string) (string, error) {
	var ids []string
	if err := a.call(method, oldTagging+listing, nil, &ids); err != nil {
		return "", err
	}
	for _, id := range ids {
		var one named
		if err := a.call(http.MethodGet, oldTagging+kind+"/id:"+id, nil, &one); err != nil {
			return "", err
		}
		if one.Name == name {
			return id, nil
		}
	}
	return "", nil
}

func (a *administrator) category(name string) (string, error) {
	return a.find("category", name, http.MethodGet, "category")
}

func (a *administrator) tag(category, name string) (string, error) {
	return a.find("tag", name, http.MethodPost, "tag/id:"+category+"?~action=list-tags-for-category")
}

func (a *administrator) create(kind string, spec map[string]any) (string, error) {
	var id string
	err := a.call(http.MethodPost, oldTagging+kind, map[string]any{"create_spec": spec}, &id)
	return id, err
}

// tag gives a VM a tag, which is made when it is not there, its category as well. Without a VM it is only made.
func (c *control) tag(_ context.Context, o order) (any, error) {
	return c.tagging(o, func(a *administrator, category, name string) (any, error) {
		within, err := a.category(category)
		if err == nil && within == "" {
			within, err = a.create("category", map[string]any{
				"name": category, "description": "", "cardinality": "MULTIPLE", "associable_types": []string{},
			})
		}
		if err != nil {
			return nil, err
		}
		id, err := a.tag(within, name)
		if err == nil && id == "" {
			id, err = a.create("tag", map[string]any{"name": name, "description": "", "category_id": within})
		}
		if err != nil || o.VM == "" {
			return nil, err
		}
		return nil, c.associate(a, o, id, "attach")
	})
}

// untag takes a tag from a VM; without one the tag itself is deleted, and its category with the last one.
func (c *control) untag(_ context.Context, o order) (any, error) {
	return c.tagging(o, func(a *administrator, category, name string) (any, error) {
		within, err := a.category(category)
		if err != nil || within == "" {
			return nil, orElse(err, "there is no category %s", category)
		}
		id, err := a.tag(within, name)
		if err != nil || id == "" {
			return nil, orElse(err, "there is no tag %s", o.Name)
		}
		if o.VM != "" {
			return nil, c.associate(a, o, id, "detach")
		}
		if err := a.call(http.MethodDelete, oldTagging+"tag/id:"+id, nil, nil); err != nil {
			return nil, err
		}
		var left []string
		listing := oldTagging + "tag/id:" + within + "?~action=list-tags-for-category"
		if err := a.call(http.MethodPost, listing, nil, &left); err != nil || len(left) > 0 {
			return nil, err
		}
		return nil, a.call(http.MethodDelete, oldTagging+"category/id:"+within, nil, nil)
	})
}

func orElse(err error, text string, arguments ...any) error {
	if err != nil {
		return err
	}
	return fmt.Errorf(text, arguments...)
}

func (c *control) tagging(o order, work func(a *administrator, category, name string) (any, error)) (any, error) {
	category, name, ok := strings.Cut(o.Name, "/")
	if !ok {
		return nil, fmt.Errorf("%q is not CATEGORY/TAG", o.Name)
	}
	a, err := c.administrator()
	if err != nil {
		return nil, err
	}
	defer a.close()
	return work(a, category, name)
}

func (c *control) associate(a *administrator, o order, tag, verb string) error {
	vm, _, err := c.vm(o)
	if err != nil {
		return err
	}
	body := map[string]any{"object_id": map[string]string{"id": vm.Self.Value, "type": vm.Self.Type}}
	return a.call(http.MethodPost, oldTagging+"tag-association/id:"+tag+"?~action="+verb, body, nil)
}

// tagAPI says which of the two APIs for tags is there: both, old, new or none.
func (c *control) tagAPI(_ context.Context, o order) (any, error) {
	if !slices.Contains([]string{"both", "old", "new", "none"}, o.Name) {
		return nil, fmt.Errorf("%q is not both, old, new or none", o.Name)
	}
	c.front.rest.mu.Lock()
	defer c.front.rest.mu.Unlock()
	c.front.rest.off = map[string]bool{
		"old": o.Name == "new" || o.Name == "none",
		"new": o.Name == "old" || o.Name == "none",
	}
	return nil, nil
}
