package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"linecard.example/gateway/client/media"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// BlobSize is the length of a blob's name, the SHA-256 of what is stored, in bytes.
const BlobSize = wire.BlobSize

// Grant is the permission to do one thing with media over HTTP: to upload, download or delete. It is as secret as what it permits.
type Grant = media.Grant

var (
	// ErrNoMedia says that the server has no place for media.
	ErrNoMedia = errors.New("the server takes no media")
	// ErrBlobTooLarge says that the server takes no blob of that size.
	ErrBlobTooLarge = errors.New("larger than the server takes")
)

// UploadGrant asks for the permission to upload blobs of at most size bytes, from 1. It serves for any number of uploads until it expires, and an
// upload that takes longer goes on with another one. It waits over reconnects until ctx ends. Errors: ErrNoMedia, ErrBlobTooLarge, ctx's, the client's.
func (c *Client) UploadGrant(ctx context.Context, size int64) (*Grant, error) {
	if size < 1 {
		return nil, fmt.Errorf("grant to upload: %d bytes: want at least 1", size)
	}
	return c.grant(ctx, stanza.Query{Method: stanza.GrantUpload, Size: uint64(min(size, stanza.MaxID))})
}

// DownloadGrant asks for the permission to read a blob. It is given whether the blob exists or not: the media server tells. Errors as those of
// UploadGrant.
func (c *Client) DownloadGrant(ctx context.Context, blob [BlobSize]byte) (*Grant, error) {
	return c.grant(ctx, stanza.Query{Method: stanza.GrantDownload, Blob: blob[:]})
}

// DeleteGrant asks for the permission to give up the own account's hold on a blob. Errors as those of UploadGrant.
func (c *Client) DeleteGrant(ctx context.Context, blob [BlobSize]byte) (*Grant, error) {
	return c.grant(ctx, stanza.Query{Method: stanza.GrantDelete, Blob: blob[:]})
}

func (c *Client) grant(ctx context.Context, q stanza.Query) (*Grant, error) {
	q.Op = stanza.OpMediaGrant
	a, err := c.ask(ctx, q)
	switch {
	case refusedFor(err, stanza.ReasonForbidden): // of a server before there was media, too
		err = ErrNoMedia
	case refusedFor(err, stanza.ReasonTooLarge):
		err = ErrBlobTooLarge
	case err == nil && a.grant == nil:
		err = errors.New("the answer has none")
	}
	if err != nil {
		return nil, fmt.Errorf("grant to %v: %w", q.Method, err)
	}
	return a.grant, nil
}

// grantOf returns the grant of a result, nil when there is none that is whole.
func grantOf(r *stanza.Result) *Grant {
	if len(r.Grant) == 0 || len(r.URL) == 0 || r.Expiry == 0 {
		return nil
	}
	url := string(r.URL)
	if !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://") {
		return nil // nothing but the web, whatever the server says
	}
	return &Grant{URL: url, Text: string(wire.AppendGrantText(nil, r.Grant)), Expires: time.UnixMilli(r.Expiry)}
}

// uploadGrants and blobGrants are how package media asks.
func (c *Client) uploadGrants(size int64) media.Grants {
	return func(ctx context.Context) (*media.Grant, error) { return c.UploadGrant(ctx, size) }
}

func (c *Client) blobGrants(blob [BlobSize]byte) media.Grants {
	return func(ctx context.Context) (*media.Grant, error) { return c.DownloadGrant(ctx, blob) }
}
